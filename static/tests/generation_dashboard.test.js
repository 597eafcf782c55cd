import { describe, expect, test } from "@odoo/hoot";
import { click, queryAllTexts, waitFor } from "@odoo/hoot-dom";
import { advanceTime, animationFrame } from "@odoo/hoot-mock";
import { contains, getService, mountWithCleanup, onRpc } from "@web/../tests/web_test_helpers";

import { registry } from "@web/core/registry";
import { WebClient } from "@web/webclient/webclient";

import { Component, xml } from "@odoo/owl";

import { CHUNK } from "@llm_generate_job/bulk_action/bulk_action";

import { makeCard, makeDashboard } from "./dashboard_helpers";
import { defineMailModels } from "./family_page";

describe.current.tags("desktop");
defineMailModels();

const CLEAR = { name: "clear", label: "Clear", icon: "fa-trash-o" };
const PAUSE = { name: "pause", label: "Pause", icon: "fa-pause" };

/** Show what `server.dashboard` is; what is pressed becomes a step. */
async function open(...dashboard) {
    const server = { dashboard: makeDashboard(...dashboard) };
    onRpc("llm.generation.queue", "get_dashboard", () => {
        expect.step("load");
        return JSON.parse(JSON.stringify(server.dashboard));
    });
    onRpc("llm.generation.queue", "press_dashboard_button", ({ args }) => {
        expect.step(args);
        return "It is done.";
    });
    await mountWithCleanup(WebClient);
    await getService("action").doAction({
        type: "ir.actions.client",
        tag: "llm_generation_dashboard",
    });
    await animationFrame();
    expect.verifySteps(["load"]);
    return server;
}

const figure = (name) => `.o_llm_queue_card [data-figure=${name}]`;

test("a card has readable units", async () => {
    await open([makeCard()]);
    expect(".o_llm_queue_card h3").toHaveText("Anthropic");
    expect(".o_llm_reason").toHaveText("Every slot is busy (2).");
    expect(figure("waiting")).toHaveText(/3\s*\(1 later\)/);
    expect(figure("oldest_wait")).toHaveText("1 min 15 s");
    expect(figure("success")).toHaveText("66.7 %");
    expect(figure("avg_wait")).toHaveText("4.0 s");
    expect(figure("avg_run")).toHaveText("1 h 1 min");
    expect(figure("tokens")).toHaveText("1,235k");
    expect(".o_llm_totals [data-total=ended]").toHaveText(/66.7 % succeeded/);
});

test("where nothing ended there is no rate", async () => {
    const quiet = { ended: 0, failed: 0, success_rate: false, avg_wait: 0, oldest_wait: 0 };
    await open([makeCard(quiet)]);
    expect(figure("success")).toHaveText("–");
    expect(figure("avg_wait")).toHaveText("–");
    expect(figure("oldest_wait")).toHaveText("–");
});

test("only the buttons that the server offers are there", async () => {
    await open([makeCard({ buttons: [PAUSE] }), makeCard({ id: 8, name: "Fal" })]);
    expect(".o_llm_queue_card[data-queue='7'] button[data-button]").toHaveCount(1);
    expect(".o_llm_queue_card[data-queue='8'] button[data-button]").toHaveCount(0);
    expect(".o_llm_queue_card[data-queue='8'] .o_llm_open_jobs").toHaveCount(1);
});

test("what cannot be done is there, and says why", async () => {
    const reason = "No job waits.";
    await open([makeCard({ buttons: [PAUSE, { ...CLEAR, reason }] })]);
    expect("[data-button=clear]").toHaveAttribute("aria-disabled", "true");
    expect("[data-button=clear]").toHaveAttribute("title", reason);
    expect("[data-button=pause]").not.toHaveAttribute("aria-disabled");
    await contains("[data-button=clear]").click();
    await waitFor(`.o_notification:contains('${reason}')`);
    expect(".modal").toHaveCount(0);
    expect.verifySteps([]);
});

test("a button tells what it did and shows what has become of it", async () => {
    const server = await open([makeCard({ buttons: [PAUSE] })]);
    server.dashboard = makeDashboard([makeCard({ health: "disabled", health_label: "Paused" })]);
    await contains("[data-button=pause]").click();
    await waitFor(".o_notification:contains('It is done.')");
    await animationFrame();
    expect.verifySteps([[[7], "pause"], "load"]);
    expect(".o_llm_queue_card .o_llm_health").toHaveText("Paused");
    expect("[data-button=pause]").toHaveCount(0);
});

test("what is done to many jobs is done some at a time, and told", async () => {
    const ids = Array.from({ length: CHUNK + 2 }, (_, index) => index + 1);
    const server = await open([makeCard({ buttons: [PAUSE] })]);
    onRpc("llm.generation.queue", "press_dashboard_button", () => ({
        type: "ir.actions.client",
        tag: "llm_generation_bulk",
        params: { what: "retry", value: null, ids },
    }));
    onRpc("llm.generation.job", "apply_bulk", ({ args: [some] }) => {
        expect.step(some.length);
        return { done: some.length - 1, refused: { "no retry is left": 1 } };
    });
    server.dashboard = makeDashboard([makeCard({ waiting: 9 })]);
    await contains("[data-button=pause]").click();
    await waitFor(`.o_notification:contains('${CHUNK} retried, 2 could not')`);
    await animationFrame();
    expect.verifySteps([CHUNK, 2, "load"]);
    expect(figure("waiting")).toHaveText(/^9/);
});

test("what failed is told by its cause, with what to do about all of it", async () => {
    const incident = {
        queue_id: 7,
        error_type: "transient",
        since: "2026-11-28 16:59:00",
        title: "Since 4:59 PM: 9 jobs of 2 users, Broken AI: Temporary failure",
        words: "HTTP 500",
        buttons: [
            { name: "test", label: "Test the Connection", icon: "fa-plug" },
            { name: "retry", label: "Retry These 9", icon: "fa-refresh" },
        ],
    };
    const server = await open([makeCard()], [], [incident]);
    onRpc("llm.generation.queue", "press_incident_button", ({ args }) => {
        expect.step(args);
        return { type: "ir.actions.act_window_close" };
    });
    expect(".o_llm_incident").toHaveCount(1);
    expect(".o_llm_incident").toHaveText(/9 jobs of 2 users, Broken AI.*HTTP 500/s);
    server.dashboard = makeDashboard([makeCard()]);
    await contains(".o_llm_incident [data-button=retry]").click();
    await animationFrame();
    expect.verifySteps([[[7], "retry", "transient", "2026-11-28 16:59:00"], "load"]);
    expect(".o_llm_incident").toHaveCount(0);
});

test("a button that opens another page loads nothing in the one that is gone", async () => {
    class OtherPage extends Component {
        static template = xml`<p class="o_other_page"/>`;
        static props = ["*"];
    }
    registry.category("actions").add("llm_other_page", OtherPage, { force: true });
    const other = { type: "ir.actions.client", tag: "llm_other_page" };
    const look = { name: "look", label: "Show What Failed", icon: "fa-search" };
    const incident = {
        ...{ queue_id: 7, error_type: "transient", since: "2026-11-28 16:59:00" },
        ...{ title: "9 jobs", words: "HTTP 500", buttons: [{ ...look, name: "show" }] },
    };
    const dashboard = [[makeCard({ buttons: [look] })], [], [incident]];
    await open(...dashboard);
    onRpc("llm.generation.queue", "press_dashboard_button", () => other);
    onRpc("llm.generation.queue", "press_incident_button", () => other);
    for (const button of ["look", "show"]) {
        await contains(`[data-button=${button}]`).click();
        await waitFor(".o_other_page");
        await animationFrame();
        expect.verifySteps([]);
        await getService("action").restore();
        await animationFrame();
        expect.verifySteps(["load"]);
    }
});

test("news are shown without a reload, and each card keeps its place", async () => {
    const one = makeCard({ id: 1, name: "One" });
    const two = makeCard({ id: 2, name: "Two" });
    const server = await open([one, two]);
    await advanceTime(1000);
    server.dashboard = makeDashboard([
        makeCard({ id: 3, name: "New" }),
        { ...two, waiting: 9 },
        one,
    ]);
    getService("bus_service").trigger("BUS:RECONNECT");
    await advanceTime(500);
    await animationFrame();
    expect.verifySteps(["load"]);
    expect(queryAllTexts(".o_llm_queue_card h3")).toEqual(["One", "Two", "New"]);
    expect("[data-queue='2'] [data-figure=waiting]").toHaveText(/^9/);
});

test("when a pause is over the figures come anew", async () => {
    await open([makeCard({ cooldown: 3 })]);
    expect(".o_llm_reason .o_llm_ticking_time").toHaveText("3 s");
    await advanceTime(5000);
    expect.verifySteps(["load"]);
});

test("a forecast is shown where there is one", async () => {
    const forecast = "The backlog is done at about 17:52.";
    await open([makeCard({ id: 1, forecast }), makeCard({ id: 2 })]);
    expect(queryAllTexts(".o_llm_forecast")).toEqual([forecast]);
    expect("[data-queue='1'] .o_llm_forecast").toHaveCount(1);
});

test("before the first job the steps to it are shown", async () => {
    const step = (name, done) => ({ name, done, title: name, text: "…", can: true });
    const steps = [step("provider", true), step("test", false), step("question", false)];
    onRpc("llm.thread", "get_first_steps", () => ({ steps, provider: 7 }));
    onRpc("llm.provider", "action_test", ({ args: [ids] }) => {
        expect.step(`test ${ids}`);
        return { params: { is_fine: false, message: "No such key." } };
    });
    await open([], steps);
    expect(".o_llm_totals").toHaveCount(0);
    expect(".o_llm_step button").toHaveCount(2);
    expect(".o_llm_step .btn-primary").toHaveCount(1);
    await click(".o_llm_step .btn-primary");
    await animationFrame();
    expect.verifySteps(["test 7"]);
    expect(".o_llm_told").toHaveText("No such key.");
    expect(".o_llm_correct").toHaveCount(1);
});
