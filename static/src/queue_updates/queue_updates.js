import { browser } from "@web/core/browser/browser";
import { useService } from "@web/core/utils/hooks";

import { onWillDestroy } from "@odoo/owl";

import { useJobUpdates } from "../job_updates/job_updates";

/** The first news is shown soon, and what follows within this time all at once. */
const SOON_MILLISECONDS = 200;
const PAUSE_MILLISECONDS = 1500;

/**
 * Call back when jobs of the user have moved, for managers those of all, when something else
 * happened in a queue, or when it may have while the connection was lost.
 *
 * However much happens, the callback is not called before its last call has ended, and never
 * while nobody looks: a hidden page catches up when it is shown.
 *
 * @param {() => Promise<void>} callback
 * @returns {() => void} asks for a call, as news do
 */
export function useQueueUpdates(callback) {
    const bus = useService("bus_service");
    let timeout = null;
    let isBusy = false;
    let isMissed = false;
    let isGone = false;
    let notBefore = 0;

    async function update() {
        timeout = null;
        if (document.hidden) {
            isMissed = true;
            return;
        }
        isBusy = true;
        isMissed = false;
        try {
            await callback();
        } finally {
            isBusy = false;
            notBefore = Date.now() + PAUSE_MILLISECONDS;
            if (isMissed) {
                schedule();
            }
        }
    }

    function schedule() {
        if (isGone) {
            return;
        }
        if (isBusy || document.hidden) {
            isMissed = true;
        } else if (timeout === null) {
            const wait = Math.max(SOON_MILLISECONDS, notBefore - Date.now());
            timeout = browser.setTimeout(update, wait);
        }
    }

    function onVisible() {
        if (isMissed && !document.hidden) {
            schedule();
        }
    }

    bus.subscribe("llm.generation.queue/update", schedule);
    bus.addEventListener("BUS:RECONNECT", schedule);
    document.addEventListener("visibilitychange", onVisible);
    useJobUpdates(() => schedule());
    onWillDestroy(() => {
        isGone = true;
        browser.clearTimeout(timeout);
        bus.unsubscribe("llm.generation.queue/update", schedule);
        bus.removeEventListener("BUS:RECONNECT", schedule);
        document.removeEventListener("visibilitychange", onVisible);
    });
    return schedule;
}
