/* global ace */
import { cookie } from "@web/core/browser/cookie";
import { CodeEditor } from "@web/core/code_editor/code_editor";
import { useBus } from "@web/core/utils/hooks";
import { useRecordObserver } from "@web/model/relational_model/utils";
import { standardFieldProps } from "@web/views/fields/standard_field_props";

import { Component, useEffect, useRef, useState } from "@odoo/owl";

import { findJsonError } from "./json_error";

// The mode is in the bundle of the editor, and missing in the list that its props are checked with.
if (!CodeEditor.MODES.includes("json")) {
    CodeEditor.MODES.push("json");
}

/** Shows and edits JSON as text. What is no JSON is marked where it goes wrong, and not saved. */
export class JsonEditor extends Component {
    static template = "llm_generate_job.JsonEditor";
    static components = { CodeEditor };
    static props = { ...standardFieldProps };

    setup() {
        this.rootRef = useRef("root");
        this.state = useState({ text: "", error: null });
        useRecordObserver((record) => {
            const value = record.data[this.props.name];
            const text = value ? JSON.stringify(value, null, 2) : "";
            if (text !== this.savedText || !record.dirty) {
                this.savedText = text;
                Object.assign(this.state, { text, error: null });
            }
        });
        const { bus } = this.props.record.model;
        useBus(bus, "WILL_SAVE_URGENTLY", () => this.commit());
        useBus(bus, "NEED_LOCAL_CHANGES", ({ detail }) => detail.proms.push(this.commit()));
        useEffect(
            (error) => error && this.mark(error),
            () => [this.state.error],
        );
    }

    onChange(text) {
        this.state.text = text;
        this.state.error = this.findError();
        const isDirty = text !== this.savedText;
        this.props.record.model.bus.trigger("FIELD_IS_DIRTY", isDirty);
    }

    findError() {
        return this.state.text.trim() ? findJsonError(this.state.text) : null;
    }

    /** Mark a line, until the function that is returned is called. */
    mark({ row, column, message }) {
        const element = this.rootRef.el.querySelector(".ace_editor");
        if (element) {
            const session = ace.edit(element).getSession();
            session.setAnnotations([{ row, column, text: message, type: "error" }]);
            const { id } = session.highlightLines(row, row, "o_llm_json_error_line");
            return () => {
                session.clearAnnotations();
                session.removeMarker(id);
            };
        }
    }

    /** Give the text to the record, or mark the field as invalid: then nothing is saved. */
    async commit() {
        const { readonly, record, name } = this.props;
        if (readonly) {
            return;
        }
        if (this.findError()) {
            return record.setInvalidField(name);
        }
        if (this.state.text !== this.savedText) {
            const value = this.state.text.trim() ? JSON.parse(this.state.text) : false;
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
