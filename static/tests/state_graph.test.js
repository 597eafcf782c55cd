import { describe, expect, test } from "@odoo/hoot";
import { freezeTime, mockDate } from "@odoo/hoot-mock";
import {
    defineModels,
    fields,
    models,
    mountView,
    patchWithCleanup,
    preloadBundle,
} from "@web/../tests/web_test_helpers";
import { GraphRenderer } from "@web/views/graph/graph_renderer";

import { STATE_COLORS } from "@llm_generate_job/job_state/state_colors";

import { defineMailModels } from "./family_page";

describe.current.tags("desktop");

class Job extends models.Model {
    _name = "llm.job";

    provider = fields.Char();
    duration = fields.Float();
    queued_at = fields.Datetime();
    state = fields.Selection({
        selection: [
            ["queued", "Queued"],
            ["completed", "Done Well"],
            ["failed", "Broken"],
        ],
    });

    _records = [
        { id: 1, provider: "One", state: "failed", duration: 3, queued_at: "2026-01-01 11:00:00" },
        { id: 2, provider: "One", state: "completed", duration: 2 },
        { id: 3, provider: "Two", state: "completed", duration: 2 },
        { id: 4, provider: "Two", state: "queued", queued_at: "2026-01-01 11:59:18" },
    ];
}

defineMailModels();
defineModels([Job]);
preloadBundle("web.chartjs_lib");

/** Return the configuration that the chart of a graph view was drawn by. */
async function draw(arch) {
    let renderer;
    patchWithCleanup(GraphRenderer.prototype, {
        setup() {
            super.setup();
            renderer = this;
        },
    });
    await mountView({ resModel: "llm.job", type: "graph", arch });
    return renderer.chart.config;
}

const graph = (mode, ...names) => /* xml */ `
    <graph type="${mode}" js_class="llm_state_graph">
        ${names.map((name) => `<field name="${name}"/>`).join("")}
    </graph>`;

test("a state has its color, whatever else is there and in whichever order", async () => {
    const { data, options } = await draw(graph("bar", "provider", "state"));
    const bars = data.datasets.filter(({ type }) => type !== "line"); // that of the sums
    const colors = Object.fromEntries(
        bars.map(({ label, backgroundColor }) => [label, backgroundColor]),
    );
    expect(colors).toEqual({
        Broken: STATE_COLORS.failed,
        "Done Well": STATE_COLORS.completed,
        Queued: STATE_COLORS.queued,
    });
    expect(options.scales.y.ticks.callback(2)).toBe("2");
    expect(options.scales.y.ticks.precision).toBe(0);
});

test("states side by side have theirs, too", async () => {
    const { data } = await draw(graph("bar", "state"));
    const [{ backgroundColor }] = data.datasets;
    const colorOf = (label) => backgroundColor[data.labels.indexOf(label)];
    expect(colorOf("Broken")).toBe(STATE_COLORS.failed);
    expect(colorOf("Done Well")).toBe(STATE_COLORS.completed);
});

test("so have the pieces of a pie", async () => {
    const { data } = await draw(graph("pie", "state"));
    const [{ backgroundColor }] = data.datasets;
    expect(backgroundColor[data.labels.indexOf("Broken")]).toBe(STATE_COLORS.failed);
});

test("what tells no state keeps the colors of the page", async () => {
    const { data } = await draw(graph("bar", "provider"));
    expect(Object.values(STATE_COLORS)).not.toInclude(data.datasets[0].backgroundColor);
});

test("a job that waits has waited until now", async () => {
    mockDate("2026-01-01 12:00:00", 0);
    freezeTime();
    await mountView({
        resModel: "llm.job",
        type: "list",
        arch: /* xml */ `
            <list>
                <field name="state"/>
                <field name="queued_at" column_invisible="True"/>
                <field name="duration" widget="llm_duration" options="{'since': 'queued_at'}"/>
            </list>`,
    });
    expect(".o_data_row:contains(Queued) [name=duration]").toHaveText("42 s");
    expect(".o_data_row:contains(Broken) [name=duration]").toHaveText("3.0 s");
});
