import { describe, expect, test } from "@odoo/hoot";
import { getService, makeMockEnv, mockService, onRpc } from "@web/../tests/web_test_helpers";

import { CHUNK, resultText } from "@llm_generate_job/bulk_action/bulk_action";

import { defineMailModels } from "./family_page";

describe.current.tags("headless");
defineMailModels();

const run = (params) =>
    getService("action").doAction({
        type: "ir.actions.client",
        tag: "llm_generation_bulk",
        params: { what: "retry", value: null, ...params },
    });

const mockNotification = () =>
    mockService("notification", {
        add(text, { type }) {
            expect.step(`${type}: ${text}`);
            return () => {};
        },
    });

test("the result counts what could not be done by its reasons", async () => {
    await makeMockEnv();
    expect(resultText("retry", 37, {})).toBe("37 retried.");
    expect(resultText("cancel", 0, { "ended before": 2 })).toBe(
        "0 cancelled, 2 could not: ended before (2).",
    );
    expect(resultText("prioritize", 5, { seldom: 1, often: 4 })).toBe(
        "5 changed, 5 could not: often (4), seldom (1).",
    );
});

test("the result says how many of other companies were left", async () => {
    mockNotification();
    await makeMockEnv();
    expect(resultText("cancel", 12, {}, 3)).toBe("12 cancelled. 3 of other companies were left.");
    await run({ ids: [], left: 3 });
    expect.verifySteps(["info: 3 of other companies were left."]);
});

test("many jobs are done some at a time, and summed up", async () => {
    mockNotification();
    onRpc("llm.generation.job", "apply_bulk", ({ args: [ids, what, value] }) => {
        expect.step(`${what} ${ids.length} ${value}`);
        return { done: ids.length - 1, refused: { "did not fail": 1 } };
    });
    await makeMockEnv();
    const ids = Array.from({ length: CHUNK + 10 }, (_, index) => index + 1);
    await run({ ids });
    expect.verifySteps([
        `retry ${CHUNK} null`,
        "retry 10 null",
        `warning: ${CHUNK + 8} retried, 2 could not: did not fail (2).`,
    ]);
});

test("jobs are cancelled once somebody has agreed to their number", async () => {
    mockNotification();
    let sure = false;
    mockService("dialog", {
        add(_component, { title, confirmLabel, cancelLabel, confirm, cancel }) {
            expect.step([title, confirmLabel, cancelLabel].join(" | "));
            return sure ? confirm() : cancel();
        },
    });
    onRpc("llm.generation.job", "apply_bulk", ({ args: [ids, what] }) => {
        expect.step(`${what} ${ids.length}`);
        return { done: ids.length, refused: {} };
    });
    await makeMockEnv();
    await run({ what: "clear", ids: [1, 2, 3, 4] });
    expect.verifySteps(["Cancel 4 Waiting Jobs? | Cancel 4 Jobs | Keep Them"]);
    sure = true;
    await run({ what: "cancel", ids: [1, 2] });
    await run({ what: "cancel", ids: [1] });
    expect.verifySteps([
        "Cancel 2 Jobs? | Cancel 2 Jobs | Keep Them",
        "cancel 2",
        "success: 2 cancelled.",
        "Cancel the Job? | Cancel the Job | Keep It",
        "cancel 1",
        "success: 1 cancelled.",
    ]);
});

test("the page is told how far it is, and is free afterwards", async () => {
    const ui = [];
    onRpc("llm.generation.job", "apply_bulk", () => {
        ui.push(getService("ui").isBlocked);
        return { done: 1, refused: {} };
    });
    await makeMockEnv();
    await run({ ids: [1], what: "prioritize", value: 0 });
    expect(ui).toEqual([true]);
    expect(getService("ui").isBlocked).toBe(false);
});

test("an error of the server leaves the page free", async () => {
    onRpc("llm.generation.job", "apply_bulk", () => {
        throw new Error("It broke.");
    });
    await makeMockEnv();
    await expect(run({ ids: [1] })).rejects.toThrow();
    expect(getService("ui").isBlocked).toBe(false);
});

test("nothing to do is said, and not asked of the server", async () => {
    mockNotification();
    onRpc("llm.generation.job", "apply_bulk", () => {
        expect.step("asked");
    });
    await makeMockEnv();
    await run({ ids: [] });
    expect.verifySteps(["info: There is no such job here."]);
});
