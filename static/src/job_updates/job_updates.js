import { browser } from "@web/core/browser/browser";
import { useService } from "@web/core/utils/hooks";

import { onWillUnmount } from "@odoo/owl";

const JOBS = "llm.generation.job/update";
const QUEUES = "llm.generation.queue/update";
/** Between two reloads, however many jobs move meanwhile. */
const RELOAD_MILLISECONDS = 1000;

function useBusMessages(type, callback) {
    const bus = useService("bus_service");
    bus.subscribe(type, callback);
    bus.start();
    onWillUnmount(() => bus.unsubscribe(type, callback));
}

/**
 * Call back with what the server tells of the user's jobs: `llm.generation.job._bus_payload()`.
 *
 * @param {(jobs: {id: number, thread_id: number, state: string}[]) => void} callback
 */
export function useJobUpdates(callback) {
    useBusMessages(JOBS, callback);
}

/**
 * Call `reload` when jobs have moved: those of the user, and for managers those of all. At most
 * once a second, and not while the call before it has not ended.
 *
 * @param {() => Promise} reload
 */
export function useLiveReload(reload) {
    let timeout = null;
    let running = false;
    let isStale = false;
    const run = async () => {
        timeout = null;
        running = true;
        isStale = false;
        try {
            await reload();
        } finally {
            running = false;
        }
        if (isStale) {
            schedule();
        }
    };
    const schedule = () => {
        isStale = true;
        if (!running && timeout === null) {
            timeout = browser.setTimeout(run, RELOAD_MILLISECONDS);
        }
    };
    useBusMessages(JOBS, schedule);
    useBusMessages(QUEUES, schedule);
    onWillUnmount(() => {
        running = true; // nothing is scheduled any more
        browser.clearTimeout(timeout);
    });
}
