/* global Event, KeyboardEvent */
import { describe, expect, queryOne, test } from "@odoo/hoot";
import { animationFrame, Deferred } from "@odoo/hoot-mock";
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

/** Mount a conversation; return undefined where the family has a page of its own. */
async function mountConversation(record = RECORD) {
    const widget = registry.category("view_widgets").get("llm_conversation", null);
    if (!widget) {
        expect(widget).toBe(null);
        return undefined;
    }
    mockService("bus_service", {
        start() {},
        subscribe() {},
        unsubscribe() {},
        addEventListener() {},
        removeEventListener() {},
    });
    onRpc("llm.thread", "get_conversation", () => []);
    const props = { readonly: false, record };
    return mountWithCleanup(widget.component, { props });
}

async function send(text) {
    const box = queryOne("textarea");
    box.value = text;
    box.dispatchEvent(new Event("input", { bubbles: true }));
    box.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true }));
    await animationFrame();
    await animationFrame();
}

test("what is typed and sent before the page is drawn again leaves the box", async () => {
    onRpc("llm.generation.job", "search_read", () => []);
    onRpc("llm.thread", "ask_in_queue", ({ kwargs }) => {
        expect.step(kwargs.message);
        return { job: { id: 7, state: "queued", message: "Waiting." } };
    });
    if (!(await mountConversation())) {
        return;
    }
    await send("Hello");
    expect.verifySteps(["Hello"]);
    expect("textarea").toHaveValue("");
});

test("a question that is stopped before it has a job is cancelled, and the next one asked", async () => {
    const asked = [new Deferred(), new Deferred()];
    let number = 0;
    onRpc("llm.generation.job", "search_read", () => []);
    onRpc("llm.thread", "ask_in_queue", ({ kwargs }) => {
        expect.step(kwargs.message);
        return asked[number++];
    });
    onRpc("llm.generation.job", "action_cancel", ({ args }) => {
        expect.step(["cancel", args[0]]);
        return true;
    });
    onRpc("llm.thread", "get_generation_news", () => ({
        job: { id: 7, state: "cancelled", message: "" },
    }));
    const conversation = await mountConversation();
    if (!conversation) {
        return;
    }
    await send("Helo");
    await conversation.stop();
    asked[0].resolve({ job: { id: 7, state: "queued", message: "Waiting." } });
    await conversation.generation;
    await animationFrame();
    expect.verifySteps(["Helo", ["cancel", [7]]]);
    await send("Hello");
    expect.verifySteps(["Hello"]);
});

test("a question that is stopped before it is saved is not asked", async () => {
    const saved = new Deferred();
    onRpc("llm.generation.job", "search_read", () => []);
    onRpc("llm.thread", "ask_in_queue", () => expect.step("asked"));
    const conversation = await mountConversation({ ...RECORD, save: () => saved });
    if (!conversation) {
        return;
    }
    await send("Helo");
    await conversation.stop();
    saved.resolve(true);
    await animationFrame();
    expect.verifySteps([]);
    expect("textarea").toHaveValue("Helo");
    expect(conversation.state.generating).toBe(false);
});

test("who only follows a job keeps what is typed; what posts nothing is not followed", async () => {
    onRpc("llm.generation.job", "search_read", ({ kwargs }) => {
        expect.step(kwargs.domain.some(([name]) => name === "post"));
        return [];
    });
    const conversation = await mountConversation();
    if (!conversation) {
        return;
    }
    expect.verifySteps([true, true]);
    conversation.state.job = { job_id: 7, state: "queued", message: "Waiting." };
    conversation.state.text = "Not sent";
    conversation.generate();
    expect(conversation.state.text).toBe("Not sent");
});
