import { _t } from "@web/core/l10n/translation";
import { registry } from "@web/core/registry";
import { standardFieldProps } from "@web/views/fields/standard_field_props";

import { Component, markup } from "@odoo/owl";

/** Shows what a message says, where the field is a link to it. */
export class MessageField extends Component {
    static template = "llm_generate_job.MessageField";
    static props = { ...standardFieldProps };

    /** The server has sanitized it, as all HTML fields. */
    get body() {
        return markup(this.props.record.data[this.props.name]?.body || "");
    }
}

registry.category("fields").add("llm_message", {
    component: MessageField,
    displayName: _t("Body of a message"),
    supportedTypes: ["many2one"],
    relatedFields: [{ name: "body", type: "html", readonly: true }],
});
