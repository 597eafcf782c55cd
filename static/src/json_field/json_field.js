import { _t } from "@web/core/l10n/translation";
import { registry } from "@web/core/registry";
import { standardFieldProps } from "@web/views/fields/standard_field_props";

import { Component } from "@odoo/owl";

import { JsonEditor } from "./json_editor";

const fields = registry.category("fields");

/** Edits JSON with the widget of `web_json_editor` where that is installed, else with our own. */
export class JsonField extends Component {
    static template = "llm_generate_job.JsonField";
    static props = { ...standardFieldProps };

    get Editor() {
        return fields.get("json_editor", null)?.component || JsonEditor;
    }
}

fields.add("llm_json", {
    component: JsonField,
    displayName: _t("JSON editor"),
    supportedTypes: ["json"],
});
