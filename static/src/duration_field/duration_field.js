import { _t } from "@web/core/l10n/translation";
import { registry } from "@web/core/registry";
import { formatFloat } from "@web/core/utils/numbers";
import { standardFieldProps } from "@web/views/fields/standard_field_props";

import { Component } from "@odoo/owl";

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/**
 * Write seconds as people do: "0.4 s", "42 s", "1 min 15 s", "2 h 5 min", "3 d 4 h".
 *
 * @param {number|false} seconds
 * @returns {string} empty for nothing
 */
export function formatSeconds(seconds) {
    if (!seconds) {
        return "";
    }
    if (seconds < 9.95) {
        return _t("%s s", formatFloat(Math.max(seconds, 0.1), { digits: [16, 1] }));
    }
    const whole = Math.round(seconds);
    if (whole < MINUTE) {
        return _t("%s s", whole);
    }
    if (whole < HOUR) {
        return _t("%(minutes)s min %(seconds)s s", {
            minutes: Math.floor(whole / MINUTE),
            seconds: whole % MINUTE,
        });
    }
    if (whole < DAY) {
        return _t("%(hours)s h %(minutes)s min", {
            hours: Math.floor(whole / HOUR),
            minutes: Math.floor((whole % HOUR) / MINUTE),
        });
    }
    return _t("%(days)s d %(hours)s h", {
        days: Math.floor(whole / DAY),
        hours: Math.floor((whole % DAY) / HOUR),
    });
}

/** A duration; of a job that waits still, the time since the moment that `since` names. */
export class DurationField extends Component {
    static template = "llm_generate_job.DurationField";
    static props = { ...standardFieldProps, since: { type: String, optional: true } };

    get text() {
        const { data } = this.props.record;
        const begun = this.props.since && data.state === "queued" && data[this.props.since];
        return formatSeconds(begun ? -begun.diffNow("seconds").seconds : data[this.props.name]);
    }
}

registry.category("fields").add("llm_duration", {
    component: DurationField,
    displayName: _t("Duration in seconds"),
    supportedTypes: ["float", "integer"],
    extractProps: ({ options }) => ({ since: options.since }),
    listViewWidth: 110,
});
// For the footers of lists, and for graphs and pivots.
registry.category("formatters").add("llm_duration", formatSeconds);
