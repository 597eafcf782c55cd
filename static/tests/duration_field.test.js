import { describe, expect, test } from "@odoo/hoot";
import { makeMockEnv } from "@web/../tests/web_test_helpers";

import { formatSeconds } from "@llm_generate_job/duration_field/duration_field";

describe.current.tags("headless");

test("seconds are written as people do", async () => {
    await makeMockEnv();
    expect(formatSeconds(0)).toBe("");
    expect(formatSeconds(0.02)).toBe("0.1 s");
    expect(formatSeconds(9.94)).toBe("9.9 s");
    expect(formatSeconds(9.96)).toBe("10 s");
    expect(formatSeconds(59.6)).toBe("1 min 0 s");
    expect(formatSeconds(75)).toBe("1 min 15 s");
    expect(formatSeconds(2 * 3600 + 5 * 60)).toBe("2 h 5 min");
    expect(formatSeconds(76 * 3600)).toBe("3 d 4 h");
});
