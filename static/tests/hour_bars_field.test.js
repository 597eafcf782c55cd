import { beforeEach, describe, expect, test } from "@odoo/hoot";
import { advanceTime, animationFrame } from "@odoo/hoot-mock";
import {
    MockServer,
    defineModels,
    fields,
    models,
    mountView,
} from "@web/../tests/web_test_helpers";

import { mockBus } from "./bus_helpers";
import { defineMailModels } from "./family_page";

describe.current.tags("desktop");

const hours = (...last) => [...Array(23).fill([0, 0]), last];

class Queue extends models.Model {
    _name = "llm.queue";

    hours = fields.Json();

    _records = [{ id: 1, hours: hours(3, 1) }];
}

defineMailModels();
defineModels([Queue]);

let serverSays;

beforeEach(() => {
    serverSays = mockBus();
});

test("the bars follow the record", async () => {
    await mountView({
        resModel: "llm.queue",
        resId: 1,
        type: "form",
        arch: /* xml */ `
            <form>
                <widget name="llm_live_record"/>
                <field name="hours" widget="llm_hour_bars"/>
            </form>`,
    });
    expect(".o_llm_hour:last title").toHaveText("1 h ago: 3 completed, 1 failed");

    MockServer.env["llm.queue"].write([1], { hours: hours(3, 2) });
    serverSays("llm.generation.job/update", []);
    await advanceTime(1000);
    await animationFrame();
    expect(".o_llm_hour:last title").toHaveText("1 h ago: 3 completed, 2 failed");
});
