import { expect } from "@odoo/hoot";
import { tick } from "@odoo/hoot-mock";
import { getService, MockServer, serverState } from "@web/../tests/web_test_helpers";

const NEWS = "llm.generation.queue/update";

/** Tell the user over the bus that something happened in a queue, and wait until it is told. */
export async function sendNews(count = 1) {
    const bus = getService("bus_service");
    let told = 0;
    const listen = () => told++;
    bus.subscribe(NEWS, listen);
    for (let number = 0; number < count; number++) {
        MockServer.env["bus.bus"]._sendone(serverState.partnerId, NEWS, { provider_ids: [1] });
    }
    for (let patience = 1000; told < count && patience; patience--) {
        await tick();
    }
    bus.unsubscribe(NEWS, listen);
    expect(told).toBe(count);
}

/** A card as the server sends it. */
export function makeCard(values = {}) {
    return {
        id: 7,
        name: "Anthropic",
        health: "warning",
        health_label: "Warning",
        reason: "Every slot is busy (2).",
        running: 2,
        limit: 2,
        waiting: 3,
        delayed: 1,
        oldest_wait: 75,
        cooldown: 0,
        forecast: "",
        ended: 3,
        failed: 1,
        success_rate: 66.666,
        avg_wait: 4,
        avg_run: 3700,
        by_hour: [...Array(23).fill([0, 0]), [2, 1]],
        tokens_today: 1234567,
        jobs_today: 8,
        buttons: [],
        ...values,
    };
}

export function makeDashboard(cards, steps = [], incidents = []) {
    const total = (name) => cards.reduce((sum, card) => sum + card[name], 0);
    return {
        cards,
        incidents,
        steps,
        totals: {
            running: total("running"),
            limit: total("limit"),
            waiting: total("waiting"),
            oldest_wait: 75,
            ended: total("ended"),
            failed: total("failed"),
            success_rate: 66.666,
            tokens_today: total("tokens_today"),
            jobs_today: total("jobs_today"),
            health: [{ health: "warning", label: "Warning", count: cards.length }],
        },
    };
}
