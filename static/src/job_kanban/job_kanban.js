import { registry } from "@web/core/registry";
import { KanbanRenderer } from "@web/views/kanban/kanban_renderer";

import "../live_view/live_view";

/** A phone shows one column: what somebody may have to do something about comes first there. */
const FIRST = ["running", "failed", "queued"];

class JobKanbanRenderer extends KanbanRenderer {
    getGroupsOrRecords() {
        const shown = super.getGroupsOrRecords();
        if (!this.env.isSmall || !this.props.list.isGrouped) {
            return shown;
        }
        const place = ({ group }) => {
            const index = FIRST.indexOf(group.value);
            return index < 0 ? FIRST.length : index;
        };
        return shown.sort((one, other) => place(one) - place(other));
    }
}

const views = registry.category("views");
views.add("llm_job_kanban", { ...views.get("llm_live_kanban"), Renderer: JobKanbanRenderer });
