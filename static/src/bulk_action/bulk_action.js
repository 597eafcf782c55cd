import { ConfirmationDialog } from "@web/core/confirmation_dialog/confirmation_dialog";
import { _t } from "@web/core/l10n/translation";
import { registry } from "@web/core/registry";

/** Jobs of one call: it takes a moment, and holds no locks for longer. */
export const CHUNK = 250;

const DONE = {
    retry: (count) => _t("%s retried", count),
    cancel: (count) => _t("%s cancelled", count),
    clear: (count) => _t("%s cancelled", count),
    prioritize: (count) => _t("%s changed", count),
    move: (count) => _t("%s moved and retried", count),
};

/**
 * Say what came of it: "37 retried, 2 could not: no retry is left (2)." and how many were left.
 *
 * @param {"retry"|"cancel"|"clear"|"prioritize"|"move"} what
 * @param {number} done
 * @param {Object<string, number>} refused numbers by reason
 * @param {number} left jobs that the user may not see
 */
export function resultText(what, done, refused, left = 0) {
    const text = doneText(what, done, refused);
    return left ? `${text} ${_t("%s of other companies were left.", left)}` : text;
}

function doneText(what, done, refused) {
    const reasons = Object.entries(refused).sort(([, one], [, other]) => other - one);
    if (!reasons.length) {
        return `${DONE[what](done)}.`;
    }
    return _t("%(done)s, %(refused)s could not: %(reasons)s.", {
        done: DONE[what](done),
        refused: reasons.reduce((sum, [, count]) => sum + count, 0),
        reasons: reasons.map(([reason, count]) => `${reason} (${count})`).join(", "),
    });
}

/**
 * Ask before jobs are cancelled: how many they are is in the question and in its answer.
 *
 * @param {Object} dialog the service
 * @param {number} count
 * @param {boolean} areWaiting whether what runs is left alone
 * @returns {Promise<boolean>} whether to go on
 */
function askToCancel(dialog, count, areWaiting) {
    const many = areWaiting ? _t("Cancel %s Waiting Jobs?", count) : _t("Cancel %s Jobs?", count);
    return new Promise((resolve) => {
        const props = {
            title: count === 1 ? _t("Cancel the Job?") : many,
            body: areWaiting
                ? _t("This cannot be undone.")
                : _t("They are given up, and running ones are stopped. This cannot be undone."),
            confirmLabel: count === 1 ? _t("Cancel the Job") : _t("Cancel %s Jobs", count),
            cancelLabel: count === 1 ? _t("Keep It") : _t("Keep Them"),
            confirm: () => resolve(true),
            cancel: () => resolve(false),
        };
        dialog.add(ConfirmationDialog, props, { onClose: () => resolve(false) });
    });
}

/** Call the server for some jobs after the other, and say how far it is, and what came of it. */
async function applyBulk(env, { params }) {
    const { dialog, orm, notification, ui } = env.services;
    const { what, value, ids, left } = params;
    const mustAsk = ["cancel", "clear"].includes(what) && ids.length;
    if (mustAsk && !(await askToCancel(dialog, ids.length, what === "clear"))) {
        return { type: "ir.actions.act_window_close" };
    }
    if (!ids.length) {
        const message = left
            ? _t("%s of other companies were left.", left)
            : _t("There is no such job here.");
        notification.add(message, { type: "info" });
    }
    let done = 0;
    const refused = {};
    for (let start = 0; start < ids.length; start += CHUNK) {
        const message = _t("%(done)s of %(all)s jobs…", { done: start, all: ids.length });
        ui.block({ message, delay: 300 });
        try {
            const some = ids.slice(start, start + CHUNK);
            const result = await orm.call("llm.generation.job", "apply_bulk", [some, what, value]);
            done += result.done;
            for (const [reason, count] of Object.entries(result.refused)) {
                refused[reason] = (refused[reason] || 0) + count;
            }
        } finally {
            ui.unblock();
        }
    }
    if (ids.length) {
        const type = Object.keys(refused).length || left ? "warning" : "success";
        notification.add(resultText(what, done, refused, left), { type });
    }
    return { type: "ir.actions.act_window_close" };
}

registry.category("actions").add("llm_generation_bulk", applyBulk);
