import { describe, expect, test } from "@odoo/hoot";
import { makeMockEnv } from "@web/../tests/web_test_helpers";

import { findJsonError } from "@llm_generate_job/json_field/json_error";

describe.current.tags("headless");

const place = (text) => {
    const error = findJsonError(text);
    return error && [error.row, error.column];
};

test("what JSON.parse reads has no error", async () => {
    await makeMockEnv();
    const texts = [
        "{}",
        "[]",
        "0",
        '"a"',
        "null",
        ' {"a": [1, -2.5e3, {"b": null}], "c": "x\\n\\u00e9"} \n',
        "[[], {}, true, false]",
    ];
    for (const text of texts) {
        expect(JSON.parse(text)).not.toBe(undefined);
        expect(findJsonError(text)).toBe(null, { message: text });
    }
});

test("what JSON.parse refuses has one", async () => {
    await makeMockEnv();
    const texts = ["", "{", "[1,]", '{"a": 01}', "{a: 1}", "[}", '"a', "[truex]", "\u00a01", "1 2"];
    for (const text of texts) {
        expect(() => JSON.parse(text)).toThrow();
        expect(findJsonError(text)).not.toBe(null, { message: text });
    }
});

test("an error is found where it is", async () => {
    await makeMockEnv();
    expect(place('{\n  "a": 1,\n  "b" 2\n}')).toEqual([2, 6]);
    expect(place('{\n  "a": 1,\n}\n')).toEqual([2, 0]);
    expect(place("[1,\n 2\n")).toEqual([1, 2]);
    expect(place('{"a": 1} x')).toEqual([0, 9]);
});

test("an error says what should be there", async () => {
    await makeMockEnv();
    expect(findJsonError('{"a"\n1}').message).toBe("Line 2: a colon is expected here.");
    expect(findJsonError("[1 2]").message).toBe("Line 1: a comma, or ] is expected here.");
    expect(findJsonError("{} {}").message).toBe("Line 1: nothing more is expected here.");
});
