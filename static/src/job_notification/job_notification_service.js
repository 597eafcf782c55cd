import { browser } from "@web/core/browser/browser";
import { _t } from "@web/core/l10n/translation";
import { registry } from "@web/core/registry";
import { session } from "@web/session";

/** What ends within this time is told in one message. */
export const COLLECT_MILLISECONDS = 1500;

const CHANNEL = "llm_generate_job.told";

/**
 * Tells users of answers that are ready, or failed, in threads that they do not look at.
 *
 * Of the tabs of a user one tells: the main one if it is seen, else another that is seen, else the
 * hidden main one. Each waits for the ones before it, and leaves out what it hears from them. A
 * tab that shows the thread is before all.
 */
export const jobNotificationService = {
    dependencies: ["action", "bus_service", "multi_tab", "notification"],

    start(
        _env,
        { action, bus_service: bus, multi_tab: multiTab, notification },
        { page = document, channel = new browser.BroadcastChannel(CHANNEL) } = {},
    ) {
        const watchers = new Set();
        let ended = new Map();
        let shown = null;

        const isWatched = (threadId) =>
            !page.hidden && [...watchers].some((watched) => watched() === threadId);

        /** The conversation, or the job where that keeps the answer. */
        const open = ({ id, thread_id: threadId, post }) =>
            action.doAction({
                type: "ir.actions.act_window",
                res_model: post ? "llm.thread" : "llm.generation.job",
                res_id: post ? threadId : id,
                views: [[false, "form"]],
            });

        const openJobs = (jobs) =>
            action.doAction({
                name: _t("Generation Jobs"),
                type: "ir.actions.act_window",
                res_model: "llm.generation.job",
                domain: [["id", "in", jobs.map(({ id }) => id)]],
                views: [
                    [false, "list"],
                    [false, "form"],
                ],
            });

        /** Tell what no tab has told that comes before this one. */
        const tellInTurn = async () => {
            const isSeen = !page.hidden;
            const isMain = await multiTab.isOnMainTab();
            if (isMain && isSeen) {
                tell();
            } else if (isMain || isSeen) {
                browser.setTimeout(tell, COLLECT_MILLISECONDS * (isSeen ? 1 : 2));
            } else {
                ended = new Map();
            }
        };

        /** One message at a time: what ends while it is read is added to it. */
        const tell = () => {
            if (!ended.size) {
                return;
            }
            channel.postMessage([...ended.keys()]);
            const jobs = [...new Map([...(shown?.jobs || []), ...ended]).values()];
            ended = new Map();
            shown?.close();
            const mine = { jobs: jobs.map((job) => [job.id, job]) };
            mine.close = show(jobs, () => {
                shown = shown === mine ? null : shown;
            });
            shown = mine;
        };

        const show = (jobs, onClose) => {
            const failed = jobs.filter(({ state }) => state === "failed").length;
            const type = failed ? "warning" : "success";
            if (jobs.length === 1) {
                const [job] = jobs;
                const text = failed ? _t("The generation failed.") : _t("The answer is ready.");
                const buttons = [{ name: _t("Open"), onClick: () => open(job) }];
                return notification.add(text, { title: job.name, type, buttons, onClose });
            }
            const text = failed
                ? _t("%(count)s generations have ended, %(failed)s of them failed.", {
                      count: jobs.length,
                      failed,
                  })
                : _t("%s answers are ready.", jobs.length);
            const buttons = [{ name: _t("Show the Jobs"), onClick: () => openJobs(jobs) }];
            return notification.add(text, { type, buttons, onClose });
        };

        const onUpdate = (jobs) => {
            for (const job of jobs) {
                const isOver = ["completed", "failed"].includes(job.state) && !job.will_retry;
                if (isOver && isWatched(job.thread_id)) {
                    // Later: the other tabs may not have heard of its end yet.
                    browser.setTimeout(
                        () => channel.postMessage([job.id]),
                        COLLECT_MILLISECONDS / 2,
                    );
                } else if (isOver) {
                    if (!ended.size) {
                        browser.setTimeout(tellInTurn, COLLECT_MILLISECONDS);
                    }
                    ended.set(job.id, job);
                }
            }
        };

        if (session.llm_generation_notify) {
            channel.onmessage = ({ data }) => data.forEach((id) => ended.delete(id));
            bus.subscribe("llm.generation.job/update", onUpdate);
            bus.start();
        }

        return {
            /**
             * Say that a thread is on the page: nothing is told about its jobs.
             *
             * @param {() => number|false|undefined} watched returns the id of the thread
             * @returns {() => void} to be called when it is no longer on the page
             */
            watch(watched) {
                watchers.add(watched);
                return () => watchers.delete(watched);
            },
        };
    },
};

registry.category("services").add("llm_job_notification", jobNotificationService);
