import { describe, expect, test } from "@odoo/hoot";
import { manuallyDispatchProgrammaticEvent } from "@odoo/hoot-dom";
import { advanceTime, animationFrame, Deferred, freezeTime } from "@odoo/hoot-mock";
import { Component, onWillStart, useState, xml } from "@odoo/owl";
import {
    getService,
    MockServer,
    mountWithCleanup,
    patchWithCleanup,
    serverState,
} from "@web/../tests/web_test_helpers";

import { useJobUpdates } from "@llm_generate_job/job_updates/job_updates";
import { useQueueUpdates } from "@llm_generate_job/queue_updates/queue_updates";

import { sendNews } from "./dashboard_helpers";
import { defineMailModels } from "./family_page";

describe.current.tags("headless");
defineMailModels();

async function watch(callback) {
    class Watcher extends Component {
        static template = xml`<div/>`;
        static props = {};

        setup() {
            useQueueUpdates(callback);
        }
    }
    freezeTime(); // a busy machine would have the pauses end by themselves
    const watcher = await mountWithCleanup(Watcher);
    await advanceTime(1000); // the connection of the bus
    return watcher;
}

test("much news is one call, and the next comes later", async () => {
    await watch(async () => expect.step("load"));
    await sendNews(20);
    expect.verifySteps([]);
    await advanceTime(300);
    expect.verifySteps(["load"]);
    await sendNews(20);
    await advanceTime(300);
    expect.verifySteps([]);
    await advanceTime(2000);
    expect.verifySteps(["load"]);
    await advanceTime(60000);
    expect.verifySteps([]);
});

test("a slow call is not overtaken, and what happens meanwhile is not lost", async () => {
    const answer = new Deferred();
    await watch(() => {
        expect.step("load");
        return answer;
    });
    await sendNews();
    await advanceTime(300);
    await sendNews();
    await advanceTime(10000);
    expect.verifySteps(["load"]);
    answer.resolve();
    await advanceTime(100);
    await advanceTime(3000);
    expect.verifySteps(["load"]);
});

test("a connection that comes back may have missed something", async () => {
    await watch(async () => expect.step("load"));
    getService("bus_service").trigger("BUS:RECONNECT");
    await advanceTime(300);
    expect.verifySteps(["load"]);
});

test("a page that nobody sees catches up when it is seen", async () => {
    let hidden = true;
    patchWithCleanup(document, {
        get hidden() {
            return hidden;
        },
    });
    await watch(async () => expect.step("load"));
    await sendNews(3);
    await advanceTime(10000);
    expect.verifySteps([]);
    hidden = false;
    await manuallyDispatchProgrammaticEvent(document, "visibilitychange");
    await advanceTime(300);
    expect.verifySteps(["load"]);
});

test("what is gone asks no more", async () => {
    const watcher = await watch(async () => expect.step("load"));
    await sendNews();
    watcher.__owl__.app.destroy();
    await advanceTime(10000);
    expect.verifySteps([]);
});

test("who is gone before being shown hears nothing", async () => {
    class Watcher extends Component {
        static template = xml`<div/>`;
        static props = {};

        setup() {
            useQueueUpdates(async () => expect.step("load"));
            useJobUpdates(() => expect.step("hear"));
            onWillStart(() => new Deferred());
        }
    }
    class Page extends Component {
        static components = { Watcher };
        static template = xml`<div><Watcher t-if="state.isOpen"/></div>`;
        static props = {};

        setup() {
            this.state = useState({ isOpen: false });
        }
    }
    const page = await mountWithCleanup(Page);
    page.state.isOpen = true;
    await animationFrame();
    page.state.isOpen = false;
    await animationFrame();
    await advanceTime(1000);
    const channel = serverState.partnerId;
    MockServer.env["bus.bus"]._sendone(channel, "llm.generation.job/update", []);
    await sendNews();
    await advanceTime(3000);
    expect.verifySteps([]);
});
