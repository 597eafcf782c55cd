import { describe, expect, test } from "@odoo/hoot";
import { defineModels, fields, models, mountView } from "@web/../tests/web_test_helpers";

import { defineMailModels } from "./family_page";

describe.current.tags("desktop");

class Call extends models.Model {
    _name = "llm.call";

    took = fields.Float({ aggregator: "avg" });

    _records = [
        { id: 1, took: 75 },
        { id: 2, took: 0 },
        { id: 3, took: 15 },
    ];
}

defineMailModels();
defineModels([Call]);

test("a list writes durations as people do, and its footer, too", async () => {
    await mountView({
        resModel: "llm.call",
        type: "list",
        arch: /* xml */ `<list><field name="took" widget="llm_duration" avg="Average"/></list>`,
    });
    expect(".o_data_cell:eq(0)").toHaveText("1 min 15 s");
    expect(".o_data_cell:eq(1)").toHaveText("–");
    expect("tfoot .o_list_number").toHaveText("30 s");
});
