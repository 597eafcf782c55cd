import { browser } from "@web/core/browser/browser";
import { ConnectionLostError } from "@web/core/network/rpc";
import { registry } from "@web/core/registry";
import { standardWidgetProps } from "@web/views/widgets/standard_widget_props";

import { Component, onWillUnmount, onWillUpdateProps, useEffect, xml } from "@odoo/owl";

import { useQueueUpdates } from "../queue_updates/queue_updates";

/** A place in the queue changes without a message about it. */
const POLL_MILLISECONDS = 5000;

/** Whether somebody types: what is not given to the record yet would be lost. */
function isTyping() {
    const typing = document.activeElement?.matches("input, textarea, [contenteditable=true]");
    const where = ".o_form_view :is(.o_field_widget, .o-mail-Composer)";
    return Boolean(typing && document.activeElement.closest(where));
}

/** Read a record of a form again, unless somebody edits it. */
export async function reloadRecord(record) {
    if (record.resId && !isTyping() && !(await record.isDirty())) {
        await record.load();
    }
}

/** Draws nothing; keeps the form that it is in up to date while nobody edits it. */
export class LiveRecord extends Component {
    static template = xml``;
    static props = { ...standardWidgetProps };

    setup() {
        useQueueUpdates(() => this.reload());
        useEffect(
            (isWaiting) => {
                if (isWaiting) {
                    const interval = browser.setInterval(() => this.reload(), POLL_MILLISECONDS);
                    return () => browser.clearInterval(interval);
                }
            },
            () => [this.isWaiting],
        );
        onWillUpdateProps(({ record }) => {
            this.isGone &&= record.resId === this.props.record.resId;
        });
        onWillUnmount(() => {
            this.isLeaving = true;
        });
    }

    async reload() {
        if (this.isLeaving || this.isGone || document.hidden) {
            return;
        }
        try {
            await reloadRecord(this.props.record);
        } catch (error) {
            // Deleted, or the session has ended: that is told once.
            this.isGone = !(error instanceof ConnectionLostError);
            throw error;
        }
    }

    get isWaiting() {
        return this.props.record.data.state === "queued";
    }
}

registry.category("view_widgets").add("llm_live_record", { component: LiveRecord });
