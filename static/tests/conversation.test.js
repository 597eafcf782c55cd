/* global Event, KeyboardEvent */
import { describe, expect, queryOne, test } from "@odoo/hoot";
import { animationFrame } from "@odoo/hoot-mock";
import { mockService, mountWithCleanup, onRpc } from "@web/../tests/web_test_helpers";
import { registry } from "@web/core/registry";

import { defineMailModels } from "./family_page";

describe.current.tags("desktop");
defineMailModels();

const RECORD = {
    resId: 1,
    save: () => Promise.resolve(true),
    isDirty: () => Promise.resolve(false),
    load: () => Promise.resolve(),
};

test("what is typed and sent before the page is drawn again leaves the box", async () => {
    const widget = registry.category("view_widgets").get("llm_conversation", null);
    if (!widget) {
        expect(widget).toBe(null); // the family has a page of its own
        return;
    }
    mockService("bus_service", {
        start() {},
        subscribe() {},
        unsubscribe() {},
        addEventListener() {},
        removeEventListener() {},
    });
    onRpc("llm.thread", "get_conversation", () => []);
    onRpc("llm.generation.job", "search_read", () => []);
    onRpc("llm.thread", "ask_in_queue", ({ kwargs }) => {
        expect.step(kwargs.message);
        return { job: { id: 7, state: "queued", message: "Waiting." } };
    });
    await mountWithCleanup(widget.component, { props: { readonly: false, record: RECORD } });
    const box = queryOne("textarea");
    box.value = "Hello";
    box.dispatchEvent(new Event("input", { bubbles: true }));
    box.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true }));
    await animationFrame();
    await animationFrame();
    expect.verifySteps(["Hello"]);
    expect("textarea").toHaveValue("");
});
