/* global Event, KeyboardEvent */
import { describe, expect, queryOne, test } from "@odoo/hoot";
import { advanceTime, animationFrame, Deferred, mockUserAgent } from "@odoo/hoot-mock";
import {
    makeServerError,
    mockService,
    mountWithCleanup,
    onRpc,
} from "@web/../tests/web_test_helpers";
import { ConnectionLostError } from "@web/core/network/rpc";
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
async function mountConversation(record = RECORD, messages = () => []) {
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
    onRpc("llm.thread", "get_conversation", messages);
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

/** What was said before: so much that it does not fit. */
const SAID = [...Array(50).keys()].map((number) => ({
    id: number + 1,
    llm_role: number % 2 ? "assistant" : "user",
    body: `<p>Message <b>${number}</b></p>`,
}));

test("what was said stays as it is while somebody types", async () => {
    onRpc("llm.generation.job", "search_read", () => []);
    const conversation = await mountConversation(RECORD, () => SAID);
    if (!conversation) {
        return;
    }
    const paragraph = queryOne(".o_llm_bubble p:first");
    conversation.state.text = "H";
    await animationFrame();
    expect("textarea").toHaveValue("H");
    expect(queryOne(".o_llm_bubble p:first")).toBe(paragraph);
    conversation.putMessage({ ...SAID[0], body: "<p>Other</p>" });
    await animationFrame();
    expect(".o_llm_bubble p:first").toHaveText("Other");
});

test("who reads what was said before is left there", async () => {
    onRpc("llm.generation.job", "search_read", () => []);
    const conversation = await mountConversation(RECORD, () => SAID);
    if (!conversation) {
        return;
    }
    const list = queryOne(".o_llm_messages");
    Object.assign(list.style, { height: "200px", overflow: "auto" });
    const scrollTo = async (top) => {
        list.scrollTop = top;
        list.dispatchEvent(new Event("scroll"));
        await animationFrame();
    };
    const grow = async (body) => {
        conversation.putMessage({ ...SAID.at(-1), body });
        await animationFrame();
    };
    await scrollTo(0);
    await grow("<p>More</p>");
    expect(list.scrollTop).toBe(0);
    await scrollTo(list.scrollHeight);
    await grow("<p>More</p><p>and more</p><p>and more</p><p>and more</p>");
    expect(list.scrollTop).toBeGreaterThan(list.scrollHeight - list.clientHeight - 40);
});

test("the end of an answer takes the focus from nobody", async () => {
    onRpc("llm.generation.job", "search_read", () => []);
    const conversation = await mountConversation();
    if (!conversation) {
        return;
    }
    const answer = async (during = () => {}) => {
        conversation.state.generating = true;
        await animationFrame();
        during();
        conversation.state.generating = false;
        await animationFrame();
    };
    await answer();
    expect(document.activeElement).toBe(queryOne("textarea"));
    const list = queryOne(".o_llm_messages");
    await answer(() => list.focus());
    expect(document.activeElement).toBe(list);
    const elsewhere = document.createElement("input");
    list.closest(".o_llm_conversation").after(elsewhere);
    await answer(() => elsewhere.focus());
    expect(document.activeElement).toBe(elsewhere);
});

test("a question that was taken is not asked again where it could not be shown", async () => {
    onRpc("llm.generation.job", "search_read", () => []);
    onRpc("llm.thread", "ask_in_queue", ({ kwargs }) => {
        expect.step(kwargs.message);
        return { job: { id: 7, state: "queued", message: "Waiting." } };
    });
    const conversation = await mountConversation();
    if (!conversation) {
        return;
    }
    conversation.loadMessages = () => Promise.reject(new ConnectionLostError("/"));
    await send("Hello");
    expect.verifySteps(["Hello"]);
    expect(conversation.state.error).toBe("");
    expect("textarea").toHaveValue("");
    expect(conversation.followedJob.job_id).toBe(7);
});

test("a conversation that is gone says so", async () => {
    onRpc("llm.generation.job", "search_read", () => []);
    onRpc("llm.thread", "ask_in_queue", () => ({
        job: { id: 7, state: "queued", message: "Waiting." },
    }));
    onRpc("llm.thread", "get_generation_news", () => {
        throw makeServerError({ type: "MissingError", message: "The record is gone." });
    });
    if (!(await mountConversation())) {
        return;
    }
    await send("Hello");
    await advanceTime(5000);
    await animationFrame();
    expect(".o_llm_failure").toHaveText(/The record is gone\./);
    expect(".o_llm_conversation .fa-spin").toHaveCount(0);
});

test("on a phone Enter begins another line", async () => {
    mockUserAgent("android");
    onRpc("llm.generation.job", "search_read", () => []);
    onRpc("llm.thread", "ask_in_queue", () => expect.step("asked"));
    if (!(await mountConversation())) {
        return;
    }
    await send("One");
    expect.verifySteps([]);
    expect("textarea").toHaveValue("One");
});

test("a job is followed again after an error of the server", async () => {
    onRpc("llm.generation.job", "search_read", () => []);
    onRpc("llm.thread", "ask_in_queue", ({ kwargs }) => {
        expect.step(kwargs.message);
        return { job: { id: 7, state: "queued", message: "Waiting." } };
    });
    onRpc("llm.thread", "get_generation_news", () => {
        throw makeServerError({ message: "Session expired." });
    });
    const conversation = await mountConversation(RECORD, () => SAID.slice(0, 1));
    if (!conversation) {
        return;
    }
    await send("Hello");
    await advanceTime(5000);
    await animationFrame();
    expect(".o_llm_failure").toHaveText(/Session expired/);
    expect(conversation.followedJob.job_id).toBe(7);
    conversation.generate();
    await animationFrame();
    expect.verifySteps(["Hello"]);
});
