import { _t } from "@web/core/l10n/translation";
import { registry } from "@web/core/registry";
import { standardFieldProps } from "@web/views/fields/standard_field_props";

import { Component } from "@odoo/owl";

import { useJobUpdates } from "../job_updates/job_updates";

const COLORS = {
    queued: "text-bg-info",
    running: "text-bg-warning",
    completed: "text-bg-success",
    failed: "text-bg-danger",
};

/** The state of a thread's last job, which turns while it waits or runs, and keeps up with it. */
export class JobStateField extends Component {
    static template = "llm_generate_job.JobStateField";
    static props = { ...standardFieldProps };

    setup() {
        useJobUpdates(async (jobs) => {
            const { record } = this.props;
            if (jobs.some((job) => job.thread_id === record.resId) && !record.isInEdition) {
                await record.load();
            }
        });
    }

    get state() {
        return this.props.record.data[this.props.name];
    }

    get label() {
        const { selection } = this.props.record.fields[this.props.name];
        return selection.find(([value]) => value === this.state)?.[1];
    }

    get isActive() {
        return ["queued", "running"].includes(this.state);
    }

    get color() {
        return COLORS[this.state] || "text-bg-light";
    }
}

registry.category("fields").add("llm_job_state", {
    component: JobStateField,
    displayName: _t("State of a generation"),
    supportedTypes: ["selection"],
    listViewWidth: 130,
});
