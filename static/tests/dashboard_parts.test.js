import { describe, expect, test } from "@odoo/hoot";
import { queryAll, queryAllTexts, queryOne } from "@odoo/hoot-dom";
import { advanceTime, animationFrame, mockDate } from "@odoo/hoot-mock";
import { mountWithCleanup } from "@web/../tests/web_test_helpers";

import { CapacityBar } from "@llm_generate_job/dashboard/capacity_bar/capacity_bar";
import { HealthBadge } from "@llm_generate_job/dashboard/health_badge/health_badge";
import { HEIGHT, HourBars } from "@llm_generate_job/dashboard/hour_bars/hour_bars";
import { TickingTime } from "@llm_generate_job/dashboard/ticking_time/ticking_time";

import { defineMailModels } from "./family_page";

describe.current.tags("headless");
defineMailModels();

const attribute = (target, name) => Number(queryOne(target).getAttribute(name));

test("a time that has begun goes on", async () => {
    await mountWithCleanup(TickingTime, { props: { seconds: 58, direction: "up" } });
    expect(".o_llm_ticking_time").toHaveText("58 s");
    await advanceTime(5500);
    await animationFrame();
    expect(".o_llm_ticking_time").toHaveText("1 min 3 s");
});

test("a countdown ends once, at nothing", async () => {
    const onEnd = () => expect.step("end");
    await mountWithCleanup(TickingTime, { props: { seconds: 3, direction: "down", onEnd } });
    await advanceTime(1500);
    await animationFrame();
    expect(".o_llm_ticking_time").toHaveText("2 s");
    expect.verifySteps([]);
    await advanceTime(10000);
    await animationFrame();
    expect(".o_llm_ticking_time").toHaveText("0 s");
    expect.verifySteps(["end"]);
});

test("the bar tells the slots that are taken", async () => {
    await mountWithCleanup(CapacityBar, { props: { running: 1, limit: 4 } });
    expect(".progress-bar").toHaveStyle({ width: "25%" }, { inline: true });
    expect(".progress").toHaveAttribute("aria-valuenow", "1");
    expect(".progress").toHaveAttribute("aria-valuemax", "4");
    expect(".o_llm_capacity").not.toHaveText(/full/);
});

test("full slots are said in words, and more than full is full", async () => {
    await mountWithCleanup(CapacityBar, { props: { running: 6, limit: 4 } });
    expect(".progress-bar").toHaveStyle({ width: "100%" }, { inline: true });
    expect(".o_llm_capacity").toHaveText(/6\s*of\s*4\s*\(full\)/);
});

test("each health has a shape of its own besides its color", async () => {
    const icons = new Set();
    for (const health of ["healthy", "warning", "critical", "disabled"]) {
        await mountWithCleanup(HealthBadge, { props: { health, label: health } });
        const badge = queryOne(`.o_llm_health[data-health=${health}]`);
        expect(badge).toHaveText(health);
        icons.add([...badge.querySelector("i").classList].find((name) => name.startsWith("fa-")));
    }
    expect(icons.size).toBe(4);
});

test("the bars of the hours share one scale", async () => {
    const hours = Array(24).fill([0, 0]);
    hours[0] = [5, 0];
    hours[23] = [6, 4];
    await mountWithCleanup(HourBars, { props: { hours, name: 1 } });
    expect(".o_llm_hour").toHaveCount(24);
    expect(".o_llm_done").toHaveCount(2);
    expect(".o_llm_broken").toHaveCount(1);
    const most = HEIGHT - 1;
    expect(attribute(".o_llm_hour:first .o_llm_done", "height")).toBeCloseTo(most / 2);
    expect(attribute(".o_llm_hour:last .o_llm_done", "height")).toBeCloseTo(most * 0.6);
    expect(attribute(".o_llm_broken", "height")).toBeCloseTo(most * 0.4);
    expect(attribute(".o_llm_broken", "y")).toBeCloseTo(HEIGHT - most);
    expect(queryAllTexts(".o_llm_hour title").at(-1)).toBe("1 h ago: 6 completed, 4 failed");
    expect("svg").toHaveAttribute(
        "aria-label",
        "15 jobs ended in the last 24 hours, at most 10 in an hour",
    );
});

test("a day without jobs draws no bar", async () => {
    await mountWithCleanup(HourBars, { props: { hours: Array(24).fill([0, 0]), name: 1 } });
    expect(queryAll(".o_llm_done, .o_llm_broken")).toHaveLength(0);
});

test("the hours have an axis, and end now", async () => {
    mockDate("2026-01-01 17:30:00", 0);
    await mountWithCleanup(HourBars, { props: { hours: Array(24).fill([0, 0]), name: 7 } });
    const ticks = ["17:30", "23:30", "05:30", "11:30", "now"];
    expect(queryAllTexts(".o_llm_hour_ticks span")).toEqual(ticks);
});
