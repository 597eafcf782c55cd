import { registry } from "@web/core/registry";
import { kanbanView } from "@web/views/kanban/kanban_view";
import { listView } from "@web/views/list/list_view";

import { useExternalListener } from "@odoo/owl";

import { useQueueUpdates } from "../queue_updates/queue_updates";

/** Whether somebody selects, edits or drags here: a reload would take it from their hands. */
function isInUse(list) {
    return Boolean(list.selection?.length || list.isDomainSelected || list.editedRecord);
}

/** Where another record would be, after a reload, under somebody's keys or mouse. */
const ROW = ":is(.o_data_row, .o_group_header, .o_kanban_record)";
const AIMED = { keydown: `${ROW}:focus-within`, pointermove: `${ROW}:has(button:hover)` };
/** For how long somebody is taken to look at that who does nothing. */
const AIM_MILLISECONDS = 10000;

/**
 * Read a list again; what is selected meanwhile stays selected.
 *
 * Not by `model.load()`: it is overtaken by what somebody searches meanwhile, and never ends then.
 */
async function reload(model) {
    await model.mutex.getUnlockedDef(); // another page, or order, is on its way
    const { root } = model;
    const before = root.records;
    await root.load();
    model.useSampleModel = false; // what is shown now are real records
    const selected = new Set(before.filter((one) => one.selected).map(({ resId }) => resId));
    for (const record of root.records.filter((one) => selected.has(one.resId) && !one.selected)) {
        await record.toggleSelection(true);
    }
}

/** A controller whose records are read again when jobs have moved. */
const live = (Controller) =>
    class extends Controller {
        setup() {
            super.setup();
            const usedAt = {};
            for (const type of Object.keys(AIMED)) {
                const use = () => {
                    usedAt[type] = Date.now();
                };
                useExternalListener(document, type, use, { capture: true });
            }
            const isAimed = ([type, selector]) =>
                Date.now() - usedAt[type] < AIM_MILLISECONDS &&
                this.rootRef.el?.querySelector(selector);
            const update = useQueueUpdates(async () => {
                const { isReady, root } = this.model;
                if (!isReady || isInUse(root) || Object.entries(AIMED).some(isAimed)) {
                    update(); // later
                } else {
                    await reload(this.model);
                }
            });
        }
    };

registry.category("views").add("llm_live_list", {
    ...listView,
    Controller: live(listView.Controller),
});
registry.category("views").add("llm_live_kanban", {
    ...kanbanView,
    Controller: live(kanbanView.Controller),
});
