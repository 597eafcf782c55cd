import { registry } from "@web/core/registry";
import { kanbanView } from "@web/views/kanban/kanban_view";
import { listView } from "@web/views/list/list_view";

import { useQueueUpdates } from "../queue_updates/queue_updates";

/** Whether somebody selects, edits or drags here: a reload would take it from their hands. */
function isInUse(list) {
    return Boolean(list.selection?.length || list.isDomainSelected || list.editedRecord);
}

/** Read a list again; what is selected meanwhile stays selected. */
async function reload(model) {
    const before = model.root;
    await model.load();
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
            useQueueUpdates(async () => {
                if (!isInUse(this.model.root)) {
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
