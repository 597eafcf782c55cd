import { beforeEach, describe, expect, test } from "@odoo/hoot";
import { advanceTime, animationFrame } from "@odoo/hoot-mock";
import {
    MockServer,
    contains,
    defineModels,
    fields,
    models,
    mountView,
    onRpc,
} from "@web/../tests/web_test_helpers";

import { mockBus } from "./bus_helpers";
import { defineMailModels } from "./family_page";

describe.current.tags("desktop");

class Thread extends models.Model {
    _name = "llm.thread";

    name = fields.Char();
    last_job_state = fields.Selection({
        selection: [
            ["queued", "Queued"],
            ["running", "Running"],
            ["completed", "Completed"],
            ["failed", "Failed"],
        ],
    });

    _records = [
        { id: 1, name: "Holidays", last_job_state: "queued" },
        { id: 2, name: "Report", last_job_state: "failed" },
        { id: 3, name: "Nothing asked yet", last_job_state: false },
    ];
}

defineMailModels();
defineModels([Thread]);

let serverSays;

beforeEach(() => {
    serverSays = mockBus();
});

let job;

beforeEach(() => {
    const reason = "Waiting, position 3 in the queue.";
    job = { id: 7, state: "queued", reason, progress: 0, can_retry: false };
    onRpc("llm.generation.job", "search_read", ({ kwargs }) => {
        expect(kwargs.domain[0]).toEqual(["thread_id", "=", 1]);
        return job ? [job] : [];
    });
});

const openForm = () =>
    mountView({
        resModel: "llm.thread",
        resId: 1,
        type: "form",
        arch: /* xml */ `<form><field name="name"/><widget name="llm_generation_status"/></form>`,
    });

async function tell(...jobs) {
    serverSays("llm.generation.job/update", jobs);
    await animationFrame();
}

test("a waiting answer has its place in the queue", async () => {
    await openForm();
    expect(".o_llm_generation_status").toHaveText(/position 3 in the queue/);
    expect(".o_llm_generation_status .fa-spin").toHaveCount(1);
    expect(".o_llm_generation_status button").toHaveText("Cancel");
});

test("the place is looked up again", async () => {
    await openForm();
    job = { ...job, reason: "Waiting, position 1 in the queue." };
    await advanceTime(5000);
    await animationFrame();
    expect(".o_llm_generation_status").toHaveText(/position 1 in the queue/);
});

test("a message over the bus shows that it runs, and then that it ended", async () => {
    await openForm();
    job = { ...job, state: "running", progress: 40 };
    await tell({ id: 7, thread_id: 1, state: "running" });
    expect(".o_llm_generation_status").toHaveText(/being generated: 40%/);

    job = { ...job, state: "completed" };
    await tell({ id: 7, thread_id: 1, state: "completed" });
    expect(".o_llm_generation_status").toHaveCount(0);
});

test("news of another thread change nothing", async () => {
    await openForm();
    job = null;
    await tell({ id: 8, thread_id: 2, state: "completed" });
    expect(".o_llm_generation_status").toHaveCount(1);
});

test("a failure has its reason, and a retry where one is left", async () => {
    onRpc("llm.generation.job", "action_retry", ({ args }) => {
        expect.step(args[0]);
        job = { ...job, state: "queued", can_retry: false };
        return true;
    });
    job = { ...job, state: "failed", reason: "Temporary failure: It broke.", can_retry: true };
    await openForm();
    expect(".o_llm_generation_status.alert-danger").toHaveText(
        /failed: Temporary failure: It broke\./,
    );
    await contains(".o_llm_generation_status button:contains(Retry)").click();
    expect.verifySteps([[7]]);
    expect(".o_llm_generation_status.alert-info").toHaveCount(1);
});

test("where a retry cannot help it says what to change", async () => {
    const advice = "Ask it in other words.";
    job = { ...job, state: "failed", reason: "No.", can_retry: false };
    job.retry_refusal = advice;
    await openForm();
    expect(".o_llm_generation_status").toHaveText(/No\.\s+Ask it in other words\./);
    expect(".o_llm_generation_status button").toHaveCount(0);
});

test("a retry that comes by itself has its time, and can be had now or given up", async () => {
    const press = (model, method) =>
        onRpc(model, method, () => {
            expect.step(method);
            return true;
        });
    press("llm.thread", "action_cancel_generation");
    press("llm.generation.job", "action_retry");
    job = { ...job, state: "failed", reason: "Failed, and is tried again at about 17:24:05." };
    Object.assign(job, { retry_at: "2026-01-01 17:24:05", can_retry: true });
    await openForm();
    expect(".o_llm_generation_status").toHaveText(/at about 17:24:05/);
    await contains(".o_llm_generation_status button:contains(Try Again Now)").click();
    await contains(".o_llm_generation_status button:contains(Cancel)").click();
    expect.verifySteps(["action_retry", "action_cancel_generation"]);
});

test("an answer that is not whole says so, and one that is says nothing", async () => {
    job = { ...job, state: "completed", finish_reason: "length" };
    await openForm();
    expect(".o_llm_generation_status.alert-warning").toHaveText(/cut off: it reached its limit/);
    expect(".o_llm_generation_status :is(i, button)").toHaveCount(0);
    for (const [reason, count] of Object.entries({ refusal: 1, stop: 0, broken: 1 })) {
        job = { ...job, finish_reason: reason };
        await tell({ id: 7, thread_id: 1, state: "completed" });
        expect(".o_llm_generation_status").toHaveCount(count);
    }
});

test("cancel is asked of the thread", async () => {
    onRpc("llm.thread", "action_cancel_generation", ({ args }) => {
        expect.step(args[0]);
        job = null;
        return true;
    });
    await openForm();
    await contains(".o_llm_generation_status button:contains(Cancel)").click();
    expect.verifySteps([[1]]);
    expect(".o_llm_generation_status").toHaveCount(0);
});

test("a list of threads shows what is generated, and keeps up with it", async () => {
    await mountView({
        resModel: "llm.thread",
        type: "list",
        arch: /* xml */ `
            <list><field name="name"/><field name="last_job_state" widget="llm_job_state"/></list>`,
    });
    expect(".o_data_row:eq(0) .badge").toHaveText("Queued");
    expect(".o_data_row:eq(0) .fa-spin").toHaveCount(1);
    expect(".o_data_row:eq(1) .badge.text-bg-danger").toHaveText("Failed");
    expect(".o_data_row:eq(1) .fa-spin").toHaveCount(0);
    expect(".o_data_row:eq(2) .badge").toHaveCount(0);

    MockServer.env["llm.thread"].write([1], { last_job_state: "completed" });
    await tell({ id: 7, thread_id: 1, state: "completed" });
    expect(".o_data_row:eq(0) .badge").toHaveText("Completed");
    expect(".o_data_row:eq(0) .fa-spin").toHaveCount(0);
});

test("the rest of the form follows the jobs of its thread, and no other", async () => {
    onRpc("llm.thread", "web_read", () => expect.step("read"));
    await openForm();
    expect.verifySteps(["read"]);
    await tell({ id: 8, thread_id: 2, state: "completed" });
    expect.verifySteps([]);
    await tell({ id: 7, thread_id: 1, state: "running" });
    await animationFrame();
    expect.verifySteps(["read"]);
    await contains("[name=name] input").edit("Weather", { confirm: false });
    await tell({ id: 7, thread_id: 1, state: "completed" });
    await animationFrame();
    expect.verifySteps([]);
    expect("[name=name] input").toHaveValue("Weather");
});
