import { registry } from "@web/core/registry";
import { kanbanView } from "@web/views/kanban/kanban_view";
import { listView } from "@web/views/list/list_view";

import { useExternalListener } from "@odoo/owl";

import { useQueueUpdates } from "../queue_updates/queue_updates";

/** Whether somebody selects, edits or drags here: a reload would take it from their hands. */
function isInUse(list) {
    return Boolean(list.selection?.length || list.isDomainSelected || list.editedRecord);
}

/** What somebody points at, or has come to by keyboard: another record would be in its place. */
const AIMED = ":is(.o_data_row, .o_kanban_record):is(:focus-within, :has(button:hover))";
/** For how long somebody is taken to look at that who does nothing. */
const AIM_MILLISECONDS = 10000;

/** Read a list again; what is selected meanwhile stays selected. */
async function reload(model) {
    const before = model.root;
    await model.load();
    model.useSampleModel = false; // what is shown now are real records
    const selected = new Set(before.selection?.map((record) => record.resId));
    for (const record of model.root.records.filter(({ resId }) => selected.has(resId))) {
        await record.toggleSelection(true);
    }
    if (before.isDomainSelected) {
        await model.root.selectDomain(true);
    }
}

/** A controller whose records are read again when jobs have moved. */
const live = (Controller) =>
    class extends Controller {
        setup() {
            super.setup();
            let usedAt = 0;
            const use = () => {
                usedAt = Date.now();
            };
            useExternalListener(document, "keydown", use, { capture: true });
            useExternalListener(document, "pointermove", use, { capture: true });
            const update = useQueueUpdates(async () => {
                const isNear = Date.now() - usedAt < AIM_MILLISECONDS;
                const isAimed = isNear && this.rootRef.el?.querySelector(AIMED);
                if (isAimed || isInUse(this.model.root)) {
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
