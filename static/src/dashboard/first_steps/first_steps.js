import { useService } from "@web/core/utils/hooks";

import { Component } from "@odoo/owl";

/** Leads from nothing to the first job. */
export class FirstSteps extends Component {
    static template = "llm_generate_job.FirstSteps";
    static props = { steps: Array };

    setup() {
        this.action = useService("action");
    }

    get next() {
        return this.props.steps.find((step) => !step.done);
    }

    onClickOpen(step) {
        return this.action.doAction({
            type: "ir.actions.act_window",
            name: step.title,
            res_model: step.opens,
            views: [[false, "form"]],
        });
    }
}
