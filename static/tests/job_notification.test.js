import { describe, expect, test } from "@odoo/hoot";
import { advanceTime, animationFrame } from "@odoo/hoot-mock";
import {
    contains,
    getService,
    makeMockEnv,
    mockService,
    mountWithCleanup,
    patchWithCleanup,
} from "@web/../tests/web_test_helpers";
import { session } from "@web/session";
import { WebClient } from "@web/webclient/webclient";

import {
    COLLECT_MILLISECONDS,
    jobNotificationService,
} from "@llm_generate_job/job_notification/job_notification_service";

import { defineMailModels } from "./family_page";

describe.current.tags("desktop");
defineMailModels();

const job = (id, values = {}) => ({
    id,
    thread_id: 100 + id,
    state: "completed",
    name: `Thread ${id}`,
    will_retry: false,
    post: true,
    ...values,
});

/** Start the service on a bus of its own; return it, and a function that sends. */
function start({ wanted = true } = {}) {
    patchWithCleanup(session, { llm_generation_notify: wanted });
    const callbacks = [];
    const bus = { subscribe: (_type, callback) => callbacks.push(callback), start() {} };
    const { action, notification } = { ...getServices() };
    const service = jobNotificationService.start(
        {},
        { action, bus_service: bus, multi_tab: { isOnMainTab: async () => true }, notification },
    );
    const send = async (...jobs) => {
        callbacks.forEach((callback) => callback(jobs));
        await advanceTime(COLLECT_MILLISECONDS);
        await animationFrame();
    };
    return { service, send };
}

const getServices = () => ({
    action: getService("action"),
    notification: getService("notification"),
});

test("one answer is told with its thread, which can be opened", async () => {
    mockService("action", {
        doAction({ res_model, res_id }) {
            expect.step([res_model, res_id]);
        },
    });
    await mountWithCleanup(WebClient);
    const { send } = start();
    await send(job(1));
    expect(".o_notification").toHaveCount(1);
    expect(".o_notification_content").toHaveText("Thread 1. The answer is ready.");
    await contains(".o_notification_buttons button:contains(Open)").click();
    expect.verifySteps([["llm.thread", 101]]);
});

test("an answer without a message is shown by its job", async () => {
    mockService("action", {
        doAction({ res_model, res_id }) {
            expect.step([res_model, res_id]);
        },
    });
    await mountWithCleanup(WebClient);
    const { send } = start();
    await send(job(1, { post: false }));
    await contains(".o_notification_buttons button:contains(Open)").click();
    expect.verifySteps([["llm.generation.job", 1]]);
});

test("what ends in a moment is told in one message", async () => {
    await mountWithCleanup(WebClient);
    const { send } = start();
    await send(job(1), job(2), job(3, { state: "failed" }));
    expect(".o_notification").toHaveCount(1);
    expect(".o_notification_content").toHaveText("3 generations have ended, 1 of them failed.");
});

test("what ends while a message is shown is added to it", async () => {
    await mountWithCleanup(WebClient);
    const { send } = start();
    await send(job(1));
    await send(job(2));
    await send(job(2), job(3));
    expect(".o_notification").toHaveCount(1);
    expect(".o_notification_content").toHaveText("3 answers are ready.");

    await contains(".o_notification_close").click();
    await send(job(4));
    expect(".o_notification_content").toHaveText("Thread 4. The answer is ready.");
});

test("a failure is told, and what is tried again is not", async () => {
    await mountWithCleanup(WebClient);
    const { send } = start();
    await send(job(1, { state: "failed", will_retry: true }), job(2, { state: "running" }));
    expect(".o_notification").toHaveCount(0);
    await send(job(1, { state: "failed" }));
    expect(".o_notification_content").toHaveText("Thread 1. The generation failed.");
});

test("what one cancelled oneself is not news", async () => {
    await mountWithCleanup(WebClient);
    const { send } = start();
    await send(job(1, { state: "cancelled" }));
    expect(".o_notification").toHaveCount(0);
});

test("nothing is told of a thread that is on the page", async () => {
    await mountWithCleanup(WebClient);
    const { service, send } = start();
    const stop = service.watch(() => 101);
    await send(job(1));
    expect(".o_notification").toHaveCount(0);
    stop();
    await send(job(1));
    expect(".o_notification").toHaveCount(1);
});

/** Start the service in tabs of one browser; what a tab tells becomes a step with its name. */
async function startTabs(tabs) {
    await makeMockEnv(); // loads the translations
    patchWithCleanup(session, { llm_generation_notify: true });
    const channels = [];
    for (const tab of tabs) {
        const bus = { subscribe: (_type, callback) => (tab.hear = callback), start() {} };
        const add = (text) => {
            expect.step(`${tab.name}: ${text}`);
            return () => {};
        };
        const multiTab = { isOnMainTab: async () => Boolean(tab.isMain) };
        const channel = {
            postMessage(data) {
                const others = channels.filter((other) => other !== channel);
                others.forEach((other) => other.onmessage({ data }));
            },
        };
        channels.push(channel);
        const service = jobNotificationService.start(
            {},
            { action: {}, bus_service: bus, multi_tab: multiTab, notification: { add } },
            { page: { hidden: Boolean(tab.isHidden) }, channel },
        );
        if (tab.watches) {
            service.watch(() => tab.watches);
        }
    }
    return async (...jobs) => {
        tabs.forEach((tab) => tab.hear(jobs));
        for (let turn = 0; turn < 8; turn++) {
            await advanceTime(COLLECT_MILLISECONDS / 2);
        }
    };
}

test("of many tabs the main one tells", async () => {
    const send = await startTabs([{ name: "a" }, { name: "b", isMain: true }, { name: "c" }]);
    await send(job(1));
    expect.verifySteps(["b: The answer is ready."]);
    await send(job(1));
    expect.verifySteps(["b: The answer is ready."]);
});

test("a tab that is seen tells before a hidden main one", async () => {
    const send = await startTabs([
        { name: "main", isMain: true, isHidden: true },
        { name: "hidden", isHidden: true },
        { name: "seen" },
    ]);
    await send(job(1), job(2));
    expect.verifySteps(["seen: 2 answers are ready."]);
});

test("where no tab is seen the main one tells", async () => {
    const send = await startTabs([
        { name: "other", isHidden: true },
        { name: "main", isMain: true, isHidden: true },
    ]);
    await send(job(1));
    expect.verifySteps(["main: The answer is ready."]);
});

test("no tab tells of a thread that another tab shows", async () => {
    const send = await startTabs([
        { name: "main", isMain: true },
        { name: "thread", watches: 101 },
        { name: "hidden", isHidden: true, watches: 102 },
    ]);
    await send(job(1));
    expect.verifySteps([]);
    await send(job(1), job(2));
    expect.verifySteps(["main: The answer is ready."]);
});

test("who does not want it is told nothing", async () => {
    await mountWithCleanup(WebClient);
    const { send } = start({ wanted: false });
    await send(job(1));
    expect(".o_notification").toHaveCount(0);
});
