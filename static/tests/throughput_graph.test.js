import { beforeEach, describe, expect, test } from "@odoo/hoot";
import { advanceTime, animationFrame } from "@odoo/hoot-mock";
import {
    MockServer,
    defineModels,
    fields,
    mockService,
    models,
    mountView,
    preloadBundle,
} from "@web/../tests/web_test_helpers";

import { defineMailModels } from "./family_page";

describe.current.tags("desktop");

const graph = (...values) =>
    JSON.stringify([
        {
            key: "Completed",
            state: "completed",
            title: "Jobs ended by hour",
            values: values.map((value, hour) => ({ label: `${hour}:00`, value, type: "past" })),
        },
        { key: "Failed", state: "failed", values: [{ label: "0:00", value: 4, type: "past" }] },
    ]);

class Queue extends models.Model {
    _name = "llm.queue";

    graph = fields.Text();

    _records = [{ id: 1, graph: graph(0, 3, 1) }];
}

defineMailModels();
defineModels([Queue]);
preloadBundle("web.chartjs_lib");

/** Callbacks by the type of message: what the server says is heard at once. */
let heard;

beforeEach(() => {
    heard = {};
    mockService("bus_service", {
        subscribe(type, callback) {
            (heard[type] ||= new Set()).add(callback);
        },
        unsubscribe(type, callback) {
            heard[type]?.delete(callback);
        },
    });
});

test("the graph says its numbers, and follows the record", async () => {
    await mountView({
        resModel: "llm.queue",
        resId: 1,
        type: "form",
        arch: /* xml */ `
            <form>
                <widget name="llm_live_record"/>
                <field name="graph" widget="llm_throughput_graph"/>
            </form>`,
    });
    expect("figcaption").toHaveText("Jobs ended by hour");
    expect("canvas").toHaveAttribute(
        "aria-label",
        "Jobs ended by hour; Completed: 1:00 3, 2:00 1; Failed: 0:00 4",
    );

    MockServer.env["llm.queue"].write([1], { graph: graph(0, 3, 2) });
    heard["llm.generation.job/update"].forEach((callback) => callback([]));
    await advanceTime(1000);
    await animationFrame();
    expect("canvas").toHaveAttribute(
        "aria-label",
        "Jobs ended by hour; Completed: 1:00 3, 2:00 2; Failed: 0:00 4",
    );
});
