import { cookie } from "@web/core/browser/cookie";
import { CodeEditor } from "@web/core/code_editor/code_editor";
import { _t } from "@web/core/l10n/translation";
import { registry } from "@web/core/registry";
import { useBus } from "@web/core/utils/hooks";
import { useRecordObserver } from "@web/model/relational_model/utils";
import { standardFieldProps } from "@web/views/fields/standard_field_props";

import { Component, useState } from "@odoo/owl";

// The mode is in the bundle of the editor, and missing in the list that its props are checked with.
if (!CodeEditor.MODES.includes("json")) {
    CodeEditor.MODES.push("json");
}

/** Shows and edits JSON as text. A text that is no JSON is said to be wrong, and not saved. */
export class JsonField extends Component {
    static template = "llm_generate_job.JsonField";
    static components = { CodeEditor };
    static props = { ...standardFieldProps };

    setup() {
        this.state = useState({ text: "", error: "" });
        useRecordObserver((record) => {
            const value = record.data[this.props.name];
            const text = value ? JSON.stringify(value, null, 2) : "";
            if (text !== this.savedText || !record.dirty) {
                this.savedText = text;
                Object.assign(this.state, { text, error: "" });
            }
        });
        const { bus } = this.props.record.model;
        useBus(bus, "WILL_SAVE_URGENTLY", () => this.commit());
        useBus(bus, "NEED_LOCAL_CHANGES", ({ detail }) => detail.proms.push(this.commit()));
    }

    onChange(text) {
        this.state.text = text;
        this.state.error = this.parse().error;
        const isDirty = text !== this.savedText;
        this.props.record.model.bus.trigger("FIELD_IS_DIRTY", isDirty);
    }

    parse() {
        try {
            const text = this.state.text.trim();
            return { value: text ? JSON.parse(text) : false, error: "" };
        } catch (error) {
            return { error: error.message };
        }
    }

    /** Give the text to the record, or mark the field as invalid: then nothing is saved. */
    async commit() {
        const { readonly, record, name } = this.props;
        const { value, error } = this.parse();
        if (readonly || error) {
            return error && record.setInvalidField(name);
        }
        if (this.state.text !== this.savedText) {
            await record.update({ [name]: value });
            record.model.bus.trigger("FIELD_IS_DIRTY", false);
        } else if (record.isFieldInvalid(name)) {
            await record.resetFieldValidity(name);
        }
    }

    get theme() {
        return cookie.get("color_scheme") === "dark" ? "monokai" : "";
    }
}

registry.category("fields").add("llm_json", {
    component: JsonField,
    displayName: _t("JSON editor"),
    supportedTypes: ["json"],
});
