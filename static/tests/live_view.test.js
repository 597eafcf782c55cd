import { beforeEach, describe, expect, press, queryOne, test } from "@odoo/hoot";
import { Deferred, advanceTime, animationFrame } from "@odoo/hoot-mock";
import {
    MockServer,
    contains,
    defineModels,
    fields,
    models,
    mountView,
    onRpc,
    toggleMenuItem,
    toggleSearchBarMenu,
} from "@web/../tests/web_test_helpers";

import { mockBus } from "./bus_helpers";
import { defineMailModels } from "./family_page";

describe.current.tags("desktop");

class Call extends models.Model {
    _name = "llm.call";

    name = fields.Char();
    state = fields.Char();

    _records = [{ id: 1, name: "One", state: "queued" }];
}

defineMailModels();
defineModels([Call]);

let serverSays;

beforeEach(() => {
    serverSays = mockBus();
});

function tell(type = "llm.generation.job/update") {
    serverSays(type, []);
}

const second = async () => {
    await advanceTime(1000);
    await animationFrame();
};

const seconds = async (count) => {
    for (let number = 0; number < count; number++) {
        await second();
    }
};

const openList = (attributes = "") =>
    mountView({
        resModel: "llm.call",
        type: "list",
        searchViewArch: `
            <search><filter name="two" string="Two" domain="[['name', '=', 'Two']]"/></search>`,
        arch: /* xml */ `
            <list js_class="llm_live_list" ${attributes}>
                <field name="name"/><field name="state"/>
            </list>`,
    });

const openForm = () =>
    mountView({
        resModel: "llm.call",
        resId: 1,
        type: "form",
        arch: /* xml */ `
            <form>
                <widget name="llm_live_record"/><field name="name"/>
                <field name="state" readonly="1"/>
            </form>`,
    });

test("a list is read again when jobs have moved", async () => {
    await openList();
    MockServer.env["llm.call"].write([1], { state: "running" });
    tell();
    await second();
    expect(".o_data_cell[name=state]").toHaveText("running");
});

test("a manager's list follows the queues of all", async () => {
    await openList();
    MockServer.env["llm.call"].write([1], { state: "running" });
    tell("llm.generation.queue/update");
    await second();
    expect(".o_data_cell[name=state]").toHaveText("running");
});

test("a thousand moves are one reading", async () => {
    await openList();
    onRpc("llm.call", "web_search_read", () => {
        expect.step("read");
    });
    for (let move = 0; move < 1000; move++) {
        tell();
    }
    await second();
    await second();
    expect.verifySteps(["read"]);
});

test("a selection is left alone", async () => {
    await openList();
    await contains(".o_data_row .o_list_record_selector input").click();
    MockServer.env["llm.call"].write([1], { state: "running" });
    tell();
    await second();
    expect(".o_data_cell[name=state]").toHaveText("queued");
    expect(".o_data_row_selected").toHaveCount(1);
});

test("what is selected while a list is read again stays selected", async () => {
    await openList();
    const read = new Deferred();
    onRpc("llm.call", "web_search_read", () => read);
    MockServer.env["llm.call"].write([1], { state: "running" });
    tell();
    await second();
    await contains(".o_data_row .o_list_record_selector input").click();
    read.resolve();
    await second();
    expect(".o_data_cell[name=state]").toHaveText("running");
    expect(".o_data_row_selected").toHaveCount(1);
});

test("what somebody has come to by keyboard stays where it is, for a while", async () => {
    await openList();
    const selector = queryOne(".o_data_row .o_list_record_selector input");
    selector.focus();
    await press("Shift");
    MockServer.env["llm.call"].write([1], { state: "running" });
    tell();
    await seconds(2);
    expect(document.activeElement).toBe(selector);
    expect(".o_data_cell[name=state]").toHaveText("queued");
    await seconds(12);
    expect(".o_data_cell[name=state]").toHaveText("running");
});

test("what is selected is read again once it is not", async () => {
    await openList();
    const selector = ".o_data_row .o_list_record_selector input";
    await contains(selector).click();
    MockServer.env["llm.call"].write([1], { state: "running" });
    tell();
    await second();
    await contains(selector).click();
    await seconds(4);
    expect(".o_data_cell[name=state]").toHaveText("running");
});

test("the first records of an empty list are no samples", async () => {
    Call._records = [];
    await openList('sample="1"');
    expect(".o_view_sample_data").toHaveCount(1);
    MockServer.env["llm.call"].create({ name: "Two", state: "queued" });
    tell();
    await second();
    expect(".o_data_cell[name=name]").toHaveText("Two");
    expect(".o_view_sample_data, .o_view_nocontent").toHaveCount(0);
});

test("a record that is gone is told of once", async () => {
    expect.errors(1);
    await openForm();
    MockServer.env["llm.call"].unlink([1]);
    await seconds(20);
    expect.verifyErrors([/cannot be found/]);
});

test("what is searched while a list is read again is found, and followed", async () => {
    Call._records = [
        { id: 1, name: "One", state: "queued" },
        { id: 2, name: "Two", state: "queued" },
    ];
    await openList();
    const read = new Deferred();
    let reads = 0;
    onRpc("llm.call", "web_search_read", () => (reads++ ? undefined : read));
    tell();
    await second();
    await toggleSearchBarMenu();
    await toggleMenuItem("Two");
    read.resolve();
    await seconds(2);
    expect(".o_data_cell[name=name]").toHaveText("Two");
    MockServer.env["llm.call"].write([2], { state: "running" });
    tell();
    await seconds(3);
    expect(".o_data_cell[name=name]").toHaveText("Two");
    expect(".o_data_cell[name=state]").toHaveText("running");
});

test("a form is read again when jobs have moved", async () => {
    await openForm();
    MockServer.env["llm.call"].write([1], { state: "running" });
    tell();
    await second();
    expect("[name=state]").toHaveText("running");
});

test("a form whose job waits is read again by itself", async () => {
    await openForm();
    MockServer.env["llm.call"].write([1], { state: "running" });
    await advanceTime(5000);
    await animationFrame();
    expect("[name=state]").toHaveText("running");

    onRpc("llm.call", "web_read", () => {
        expect.step("read");
    });
    await advanceTime(10000);
    expect.verifySteps([]);
});

test("what is typed into a form is kept", async () => {
    await openForm();
    await contains("[name=name] input").edit("Two", { confirm: false });
    MockServer.env["llm.call"].write([1], { state: "running" });
    tell();
    await second();
    expect("[name=name] input").toHaveValue("Two");
    expect("[name=state]").toHaveText("queued");
});
