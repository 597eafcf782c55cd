import { beforeEach, describe, expect, getFixture, test } from "@odoo/hoot";
import { click } from "@odoo/hoot-dom";
import { advanceTime, animationFrame } from "@odoo/hoot-mock";
import { makeMockEnv, patchWithCleanup } from "@web/../tests/web_test_helpers";

import { browser } from "@web/core/browser/browser";

import { addCopyButtons } from "@llm_generate_job/copy_code/copy_code";

import { defineMailModels } from "./family_page";

describe.current.tags("desktop");
defineMailModels();

const CODE = '{\n    "a": "2**3 < 4**5",\n\t"b": "```"\n}\n';
let root;

beforeEach(async () => {
    await makeMockEnv(); // the templates
    root = document.createElement("div");
    for (const tag of ["code", "span"]) {
        const pre = document.createElement("pre");
        const code = document.createElement(tag);
        code.textContent = CODE;
        pre.append(code);
        root.append(document.createElement("p"), pre);
    }
    getFixture().append(root);
});

async function press(number) {
    await click(root.querySelectorAll("pre")[number].querySelector(".o_llm_copy"));
    await animationFrame();
}

test("each piece of code is copied as it was written, by one button", async () => {
    patchWithCleanup(browser.navigator.clipboard, {
        writeText: async (text) => expect.step(text),
    });
    addCopyButtons(root);
    addCopyButtons(root); // an answer that grows is drawn again
    expect(root.querySelectorAll(".o_llm_copy")).toHaveLength(2);
    for (const number of [0, 1]) {
        await press(number);
        expect.verifySteps([CODE]);
    }
    expect(root.querySelectorAll(".fa-check")).toHaveLength(2);
    await advanceTime(1500);
    expect(root.querySelectorAll(".fa-check")).toHaveLength(0);
});

test("where nothing can be copied nothing says that it was", async () => {
    patchWithCleanup(browser.navigator.clipboard, {
        writeText: async () => {
            throw new Error("Not here.");
        },
    });
    patchWithCleanup(browser.console, { warn: (error) => expect.step(error.message) });
    addCopyButtons(root);
    await press(0);
    expect.verifySteps(["Not here."]);
    expect(root.querySelectorAll(".fa-clipboard")).toHaveLength(2);
});
