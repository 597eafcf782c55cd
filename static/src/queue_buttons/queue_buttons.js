import { registry } from "@web/core/registry";
import { useService } from "@web/core/utils/hooks";
import { standardWidgetProps } from "@web/views/widgets/standard_widget_props";

import { Component, status, useComponent, useState } from "@odoo/owl";

const MODEL = "llm.generation.queue";

/** What can be done about a queue, as its server says it; what cannot be done now says why. */
export class QueueButtons extends Component {
    static template = "llm_generate_job.QueueButtons";
    static props = { buttons: Array, isBusy: Boolean, onPress: Function };
}

/**
 * Press a button of a queue: `press_dashboard_button()`.
 *
 * @param {() => Promise} reload called when it was done
 * @returns {(queueId: number, button: Object) => Promise}
 */
export function usePressButton(reload) {
    const [orm, action] = [useService("orm"), useService("action")];
    const notification = useService("notification");
    const component = useComponent();
    return async (queueId, button) => {
        if (button.reason) {
            notification.add(button.reason, { type: "info" });
            return;
        }
        const args = [[queueId], button.name];
        const result = await orm.call(MODEL, "press_dashboard_button", args);
        if (typeof result === "string") {
            notification.add(result, { type: "success" });
        } else {
            await action.doAction(result);
        }
        // What opens another page is gone by then.
        if (status(component) !== "destroyed") {
            await reload();
        }
    };
}

/** The buttons of a queue in its form and on its card. */
class RecordQueueButtons extends Component {
    static template = "llm_generate_job.RecordQueueButtons";
    static components = { QueueButtons };
    static props = { ...standardWidgetProps };

    setup() {
        this.state = useState({ isBusy: false });
        this.pressButton = usePressButton(() => this.props.record.model.load());
    }

    get buttons() {
        return this.props.record.data.buttons || [];
    }

    async onPress(button) {
        const { record } = this.props;
        this.state.isBusy = true;
        try {
            if (!(await record.isDirty()) || (await record.save())) {
                await this.pressButton(record.resId, button);
            }
        } finally {
            this.state.isBusy = false;
        }
    }
}

registry.category("view_widgets").add("llm_queue_buttons", {
    component: RecordQueueButtons,
    fieldDependencies: [{ name: "buttons", type: "json" }],
});
