import { browser } from "@web/core/browser/browser";
import { registry } from "@web/core/registry";
import { standardWidgetProps } from "@web/views/widgets/standard_widget_props";

import { Component, onWillUnmount, useEffect, xml } from "@odoo/owl";

import { useLiveReload } from "../job_updates/job_updates";

/** A place in the queue changes without a message about it. */
const POLL_MILLISECONDS = 5000;

/** Draws nothing; keeps the form that it is in up to date while nobody edits it. */
export class LiveRecord extends Component {
    static template = xml``;
    static props = { ...standardWidgetProps };

    setup() {
        useLiveReload(() => this.reload());
        useEffect(
            (isWaiting) => {
                if (isWaiting) {
                    const interval = browser.setInterval(() => this.reload(), POLL_MILLISECONDS);
                    return () => browser.clearInterval(interval);
                }
            },
            () => [this.isWaiting],
        );
        onWillUnmount(() => {
            this.isLeaving = true;
        });
    }

    async reload() {
        const { record } = this.props;
        if (record.resId && !this.isInUse && !(await record.isDirty())) {
            await record.load();
        }
    }

    /** Whether somebody types here: what is not given to the record yet would be lost. */
    get isInUse() {
        const typing = document.activeElement?.matches("input, textarea, [contenteditable=true]");
        return this.isLeaving || (typing && document.activeElement.closest(".o_form_view"));
    }

    get isWaiting() {
        return this.props.record.data.state === "queued";
    }
}

registry.category("view_widgets").add("llm_live_record", { component: LiveRecord });
