import { useService } from "@web/core/utils/hooks";

import { onWillDestroy } from "@odoo/owl";

const JOBS = "llm.generation.job/update";

/**
 * Call back with what the server tells of the user's jobs: `llm.generation.job._bus_payload()`.
 *
 * @param {(jobs: {id: number, thread_id: number, state: string}[]) => void} callback
 */
export function useJobUpdates(callback) {
    const bus = useService("bus_service");
    bus.subscribe(JOBS, callback);
    bus.start();
    onWillDestroy(() => bus.unsubscribe(JOBS, callback));
}
