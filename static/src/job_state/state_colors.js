/** One color for each state of a job, in every chart. */
export const STATE_COLORS = {
    draft: "#ced4da",
    queued: "#17a2b8",
    running: "#ffac00",
    completed: "#28a745",
    failed: "#dc3545",
    cancelled: "#adb5bd",
};
