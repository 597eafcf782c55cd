/* global ace */
import { expect, test } from "@odoo/hoot";
import { queryOne } from "@odoo/hoot-dom";
import { animationFrame } from "@odoo/hoot-mock";
import { Component, xml } from "@odoo/owl";
import {
    clickSave,
    contains,
    defineModels,
    fields,
    models,
    mountView,
    onRpc,
    patchWithCleanup,
    preloadBundle,
    preventResizeObserverError,
} from "@web/../tests/web_test_helpers";
import { registry } from "@web/core/registry";

import { defineMailModels } from "./family_page";

class Call extends models.Model {
    _name = "llm.call";

    name = fields.Char();
    inputs = fields.Json();

    _records = [
        { id: 1, name: "One", inputs: { prompt: "Hello" } },
        { id: 2, name: "Two", inputs: false },
    ];
}

defineMailModels();
defineModels([Call]);
preloadBundle("web.ace_lib");
preventResizeObserverError();

const arch = (attributes = "") => /* xml */ `
    <form><field name="name"/><field name="inputs" widget="llm_json" ${attributes}/></form>`;

const open = (resId, attributes) =>
    mountView({ resModel: "llm.call", resId, type: "form", arch: arch(attributes) });

const editor = () => ace.edit(queryOne(".o_llm_json_editor .ace_editor, .o_llm_json_editor"));

async function write(text) {
    editor().setValue(text);
    await animationFrame();
}

test("JSON is shown with its lines indented", async () => {
    await open(1);
    expect(editor().getValue()).toBe('{\n  "prompt": "Hello"\n}');
    expect(editor().getSession().$modeId).toBe("ace/mode/json");
});

test("what is read only cannot be edited", async () => {
    await open(1, 'readonly="1"');
    expect(editor().getReadOnly()).toBe(true);
    expect(editor().getValue()).toInclude("Hello");
});

test("nothing to read is said to be empty", async () => {
    await open(2, 'readonly="1"');
    expect(".ace_editor").toHaveCount(0);
    expect(".o_field_llm_json").toHaveText("Empty");
});

test("valid JSON is saved as a value", async () => {
    onRpc("llm.call", "web_save", ({ args }) => {
        expect.step(args[1]);
    });
    await open(1);
    await write('{"n": [1, 2]}');
    expect(".o_llm_json_error").toHaveCount(0);
    await clickSave();
    expect.verifySteps([{ inputs: { n: [1, 2] } }]);
});

test("an emptied editor saves nothing", async () => {
    onRpc("llm.call", "web_save", ({ args }) => {
        expect.step(args[1]);
    });
    await open(1);
    await write("");
    await clickSave();
    expect.verifySteps([{ inputs: false }]);
});

test("invalid JSON is marked at its line and not saved", async () => {
    onRpc("llm.call", "web_save", () => {
        expect.step("saved");
    });
    await open(1);
    await write('{\n  "prompt": "Hello",\n  "n" 1\n}');

    expect(".o_llm_json_error").toHaveText(/Line 3: a colon is expected here\./);
    const marks = editor().getSession().getAnnotations();
    expect(marks.map(({ row, column, type }) => [row, column, type])).toEqual([[2, 6, "error"]]);

    await contains(".o_form_button_save").click();
    expect.verifySteps([]);
    expect(".o_field_invalid").toHaveCount(1);
    expect(editor().getValue()).toInclude('"n" 1', { message: "it is kept to be mended" });
});

test("mended JSON loses its mark and is saved", async () => {
    onRpc("llm.call", "web_save", ({ args }) => {
        expect.step(args[1]);
    });
    await open(1);
    await write("{");
    expect(editor().getSession().getAnnotations()).toHaveLength(1);
    await write("{}");
    expect(editor().getSession().getAnnotations()).toHaveLength(0);
    expect(".o_llm_json_error").toHaveCount(0);
    await write('{"a": 1}');
    await clickSave();
    expect.verifySteps([{ inputs: { a: 1 } }]);
});

test("the widget of web_json_editor is used where it is installed", async () => {
    class Installed extends Component {
        static template = xml`<div class="o_installed" t-out="props.name"/>`;
        static props = ["*"];
    }
    const fieldRegistry = registry.category("fields");
    patchWithCleanup(fieldRegistry, {
        get(name, ...rest) {
            return name === "json_editor" ? { component: Installed } : super.get(name, ...rest);
        },
    });
    await open(1);
    expect(".o_installed").toHaveText("inputs");
    expect(".ace_editor").toHaveCount(0);
});
