/* global luxon */
import { _t } from "@web/core/l10n/translation";
import { registry } from "@web/core/registry";
import { standardFieldProps } from "@web/views/fields/standard_field_props";

import { Component } from "@odoo/owl";

export const HEIGHT = 36;
export const WIDTH = 10;

/** What ended in each of the last 24 hours: a bar an hour, its failed part hatched on top. */
export class HourBars extends Component {
    static template = "llm_generate_job.HourBars";
    static props = { hours: Array, name: Number };

    setup() {
        this.box = `0 0 ${WIDTH * 24} ${HEIGHT}`;
        this.baseline = HEIGHT;
    }

    get most() {
        return Math.max(...this.props.hours.map(([completed, failed]) => completed + failed));
    }

    get bars() {
        const scale = (HEIGHT - 1) / (this.most || 1);
        return this.props.hours.map(([completed, failed], index) => {
            const done = completed * scale;
            const broken = failed * scale;
            return {
                x: index * WIDTH + 1,
                width: WIDTH - 2,
                done: { y: HEIGHT - done, height: done },
                broken: { y: HEIGHT - done - broken, height: broken },
                title: this.sentence(this.props.hours.length - index, completed, failed),
            };
        });
    }

    sentence(hours, completed, failed) {
        const values = { hours, completed, failed };
        return _t("%(hours)s h ago: %(completed)s completed, %(failed)s failed", values);
    }

    /** Hours of the clock below the bars; the last one is not over. */
    get ticks() {
        const now = luxon.DateTime.now();
        return [24, 18, 12, 6].map((hours) => now.minus({ hours }).toFormat("HH:mm"));
    }

    get summary() {
        const total = this.props.hours.reduce((sum, [done, failed]) => sum + done + failed, 0);
        return _t("%(total)s jobs ended in the last 24 hours, at most %(most)s in an hour", {
            total,
            most: this.most,
        });
    }
}

/** The same of a record, by a field of JSON. */
export class HourBarsField extends Component {
    static template = "llm_generate_job.HourBarsField";
    static components = { HourBars };
    static props = { ...standardFieldProps };
}

registry.category("fields").add("llm_hour_bars", {
    component: HourBarsField,
    supportedTypes: ["json"],
});
