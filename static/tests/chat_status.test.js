import { beforeEach, describe, expect, test } from "@odoo/hoot";
import { advanceTime, animationFrame } from "@odoo/hoot-mock";
import { contains, mockService, mountWithCleanup, onRpc } from "@web/../tests/web_test_helpers";

import { EventBus } from "@odoo/owl";

import { ChatStatus } from "@llm_generate_job/chat/chat_status";

import { mockBus } from "./bus_helpers";
import { defineMailModels } from "./family_page";

describe.current.tags("desktop");
defineMailModels();

const THREAD = 1;

let serverSays, bus, chatBus, job;

beforeEach(() => {
    bus = new EventBus();
    chatBus = new EventBus();
    const reason = "Waiting, position 3 in the queue.";
    job = { id: 7, state: "queued", reason, progress: 0, can_retry: false };
    serverSays = mockBus({
        addEventListener: bus.addEventListener.bind(bus),
        removeEventListener: bus.removeEventListener.bind(bus),
    });
    const show = (threadId, news) => expect.step(`shown ${threadId}: ${news.job?.state}`);
    mockService("llm_generation_chat", () => ({ bus: chatBus, show }));
    onRpc("llm.thread", "get_generation_news", ({ args }) => {
        expect(args[0]).toEqual([THREAD]);
        return { job: job || false, since: 10, message_ids: [10], data: {} };
    });
});

async function mount() {
    await mountWithCleanup(ChatStatus, { props: { threadId: THREAD } });
    await animationFrame();
}

async function tell(...jobs) {
    serverSays("llm.generation.job/update", jobs);
    await animationFrame();
}

test("what waits has its place, which is looked up again", async () => {
    await mount();
    expect(".o_llm_generation_status").toHaveText(/position 3 in the queue/);
    job = { ...job, reason: "Waiting, position 2 in the queue." };
    await advanceTime(5000);
    await animationFrame();
    expect(".o_llm_generation_status").toHaveText(/position 2 in the queue/);
    expect.verifySteps(["shown 1: queued", "shown 1: queued"]);
});

test("an answer that is written is looked at each second, until its end", async () => {
    job = { ...job, state: "running" };
    await mount();
    await advanceTime(1000);
    await animationFrame();
    expect.verifySteps(["shown 1: running", "shown 1: running"]);
    job = { ...job, state: "completed" };
    await tell({ id: 7, thread_id: THREAD, state: "completed" });
    expect.verifySteps(["shown 1: completed"]);
    expect(".o_llm_generation_status").toHaveCount(0);
    await advanceTime(20000);
    expect.verifySteps([]);
});

test("what is asked here is looked at, and nothing that is asked elsewhere", async () => {
    job = null;
    await mount();
    expect.verifySteps(["shown 1: undefined"]);
    chatBus.trigger("ASKED", 2);
    await tell({ id: 8, thread_id: 2, state: "queued" });
    expect.verifySteps([]);
    job = { id: 7, state: "queued", reason: "Waiting, position 1 in the queue." };
    chatBus.trigger("ASKED", THREAD);
    await animationFrame();
    expect.verifySteps(["shown 1: queued"]);
    expect(".o_llm_generation_status").toHaveText(/position 1/);
});

test("what was missed is asked for when the connection is back", async () => {
    job = null;
    await mount();
    bus.trigger("BUS:RECONNECT");
    await animationFrame();
    expect.verifySteps(["shown 1: undefined", "shown 1: undefined"]);
});

test("a cancelled answer is said to be so, and is no failure", async () => {
    onRpc("llm.thread", "action_cancel_generation", ({ args }) => {
        expect.step(args[0]);
        job = { ...job, state: "cancelled" };
        return true;
    });
    await mount();
    await contains(".o_llm_generation_status button:contains(Cancel)").click();
    await animationFrame();
    expect.verifySteps(["shown 1: queued", [THREAD], "shown 1: cancelled"]);
    expect(".o_llm_generation_status.alert-secondary").toHaveText("The answer was cancelled.");
    expect(".o_llm_generation_status :is(i, button)").toHaveCount(0);
});

test("an answer that is not whole says so above the composer", async () => {
    job = { ...job, state: "completed", finish_reason: "content_filter" };
    await mount();
    expect.verifySteps(["shown 1: completed"]);
    expect(".o_llm_generation_status.alert-warning").toHaveText(/cut off: a filter stopped it/);
});
