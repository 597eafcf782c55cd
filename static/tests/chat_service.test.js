import { beforeEach, describe, expect, test } from "@odoo/hoot";
import { animationFrame } from "@odoo/hoot-mock";
import { ConnectionLostError, RPCError } from "@web/core/network/rpc";

import { chatService } from "@llm_generate_job/chat/chat_service";

describe.current.tags("headless");

const THREAD = 1;
const NEWS = {
    job: { id: 7, state: "queued", queue_position: 1 },
    since: 10,
    message_ids: [10],
    data: { "mail.message": [{ id: 10 }] },
};

/** The family's store and mail's, as far as they are asked. */
let llmStore, mailStore, thread, answer, chat;

beforeEach(() => {
    llmStore = {
        streamingThreads: new Set(),
        eventSources: new Map(),
        startLLMStreaming: (...args) => expect.step(["directly", ...args]),
        startGenerationStreaming: () => expect.step("past the queue"),
        stopStreaming(threadId) {
            this.streamingThreads.delete(threadId);
            this.eventSources.delete(threadId);
        },
        handleStreamMessage: (_threadId, { type }) => expect.step(type),
    };
    const messages = new Map();
    thread = { isLoaded: true, messages: [], composer: { composerText: "" } };
    mailStore = {
        Thread: { get: () => thread },
        "mail.message": { get: (id) => messages.get(id) },
        insert: (data) => {
            for (const { id } of data["mail.message"] || []) {
                messages.set(id, {
                    id,
                    delete: () => {
                        thread.messages = thread.messages.filter((message) => message.id !== id);
                    },
                });
            }
        },
    };
    const orm = {
        call: (...args) => expect.step(args),
        silent: {
            call: async (_model, method, args, kwargs) => {
                expect.step([method, ...args, kwargs]);
                if (answer instanceof Error) {
                    throw answer;
                }
                return answer;
            },
        },
    };
    const notification = { add: (text) => expect.step(text) };
    const services = { "llm.store": llmStore, "mail.store": mailStore, notification, orm };
    chat = chatService.start({}, services);
});

const asked = (message, attachments) => [
    "ask_in_queue",
    [THREAD],
    { message, attachment_ids: attachments },
];

test("what is queued is shown, and no stream is opened", async () => {
    answer = NEWS;
    chat.bus.addEventListener("ASKED", ({ detail }) => expect.step(`asked ${detail}`));
    await llmStore.startLLMStreaming(THREAD, "Hi", [3]);

    expect.verifySteps([asked("Hi", [3]), `asked ${THREAD}`]);
    expect(thread.messages.map(({ id }) => id)).toEqual([10]);
    expect(chat.isQueued(THREAD)).toBe(true);
});

test("a conversation beside a record, which nobody loads, is loaded", async () => {
    answer = NEWS;
    Object.assign(thread, { isLoaded: false, fetchNewMessages: () => expect.step("loaded") });
    await llmStore.startLLMStreaming(THREAD, "Hi");

    expect.verifySteps([asked("Hi", []), "loaded"]);
    expect(thread.messages).toEqual([]);
});

test("what is not queued is answered as ever", async () => {
    answer = false;
    await llmStore.startLLMStreaming(THREAD, "Hi");

    expect.verifySteps([asked("Hi", []), ["directly", THREAD, "Hi", []]]);
    expect(thread.messages).toEqual([]);
});

test("what is generated without a question goes the same way", async () => {
    answer = NEWS;
    await llmStore.startGenerationStreaming(THREAD);

    expect.verifySteps([asked(false, [])]);
});

test("a refusal has its reason, and the text is given back", async () => {
    answer = Object.assign(new RPCError(), { data: { message: "The budget is spent." } });
    await llmStore.startLLMStreaming(THREAD, "Hi");

    expect.verifySteps([asked("Hi", []), "The budget is spent."]);
    expect(thread.composer.composerText).toBe("Hi");
    expect(llmStore.streamingThreads.size).toBe(0);
});

test("a text that was begun meanwhile is kept", async () => {
    answer = Object.assign(new RPCError(), { data: { message: "The budget is spent." } });
    thread.composer.composerText = "Ho";
    await llmStore.startLLMStreaming(THREAD, "Hi");

    expect.verifySteps([asked("Hi", []), "The budget is spent."]);
    expect(thread.composer.composerText).toBe("Ho");
});

test("a lost connection is told by who tells it always", async () => {
    answer = new ConnectionLostError("/web");
    await expect(llmStore.startLLMStreaming(THREAD, "Hi")).rejects.toThrow(ConnectionLostError);

    expect.verifySteps([asked("Hi", [])]);
    expect(llmStore.streamingThreads.size).toBe(0);
});

test("the end of a job lets one ask again", () => {
    chat.show(THREAD, NEWS);
    expect(chat.isQueued(THREAD)).toBe(true);
    chat.show(THREAD, { ...NEWS, job: { id: 7, state: "completed" } });
    expect(chat.isQueued(THREAD)).toBe(false);
});

test("a direct answer that is being read is not ended by old news", () => {
    llmStore.streamingThreads.add(THREAD);
    llmStore.eventSources.set(THREAD, {});
    chat.show(THREAD, { ...NEWS, job: false });

    expect(llmStore.streamingThreads.has(THREAD)).toBe(true);
});

test("what a retry took away is no longer shown, and what was said before is", async () => {
    chat.show(THREAD, { ...NEWS, since: 10, message_ids: [10, 11], data: told(10, 11) });
    mailStore.insert(told(13));
    thread.messages.push(mailStore["mail.message"].get(13)); // a note, of which nothing is told
    chat.show(THREAD, { ...NEWS, since: 10, message_ids: [10, 12], data: told(10, 12) });
    await animationFrame();

    expect(thread.messages.map(({ id }) => id).sort()).toEqual([10, 12, 13]);
});

test("an answer that is queued after all makes no noise", () => {
    llmStore.streamingThreads.add(THREAD);
    for (const type of ["job_status", "cancelled"]) {
        llmStore.handleStreamMessage(THREAD, { type, job_id: 7 });
    }
    expect(llmStore.streamingThreads.has(THREAD)).toBe(true);
    llmStore.handleStreamMessage(THREAD, { type: "error", error: "It broke.", job_id: 7 });
    expect(llmStore.streamingThreads.has(THREAD)).toBe(false);
    llmStore.handleStreamMessage(THREAD, { type: "follow", job_id: 7 });
    expect.verifySteps([]);
    llmStore.handleStreamMessage(THREAD, { type: "error", error: "It broke." });
    llmStore.handleStreamMessage(THREAD, { type: "message_chunk" });
    expect.verifySteps(["error", "message_chunk"]);
});

test("cancel is asked of the thread", () => {
    chat.cancel(THREAD);
    expect.verifySteps([["llm.thread", "action_cancel_generation", [[THREAD]]]]);
});

function told(...ids) {
    return { "mail.message": ids.map((id) => ({ id })) };
}
