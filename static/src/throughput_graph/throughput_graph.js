import { registry } from "@web/core/registry";
import { useRecordObserver } from "@web/model/relational_model/utils";
import {
    JournalDashboardGraphField,
    journalDashboardGraphField,
} from "@web/views/fields/journal_dashboard_graph/journal_dashboard_graph_field";

import { useState } from "@odoo/owl";

import { STATE_COLORS } from "../job_state/state_colors";

/** Bars of jobs by hour, with their numbers; they follow the record when it is read again. */
export class ThroughputGraphField extends JournalDashboardGraphField {
    static template = "llm_generate_job.ThroughputGraphField";

    setup() {
        this.state = useState({ text: this.props.record.data[this.props.name] });
        super.setup();
        useRecordObserver((record) => {
            this.state.text = record.data[this.props.name];
        });
    }

    get data() {
        return JSON.parse(this.state.text);
    }

    set data(_value) {
        // The base class keeps what it read first.
    }

    getBarChartConfig() {
        const config = super.getBarChartConfig();
        config.data.datasets = this.data.map(({ key, state, values }) => ({
            backgroundColor: STATE_COLORS[state],
            data: values.map(({ value }) => value),
            label: key,
        }));
        config.options.animation = false;
        config.options.plugins.legend.display = true;
        config.options.plugins.tooltip.mode = "index";
        config.options.scales.x.stacked = true;
        config.options.scales.y = { beginAtZero: true, stacked: true, ticks: { precision: 0 } };
        return config;
    }

    /** What the picture says, for those who do not see it. */
    get summary() {
        const sentences = this.data.map(({ key, values }) => {
            const busy = values.filter(({ value }) => value);
            const parts = busy.map(({ label, value }) => [label, value].join(" "));
            return [key, parts.join(", ") || 0].join(": ");
        });
        return [this.data[0].title, ...sentences].join("; ");
    }
}

registry.category("fields").add("llm_throughput_graph", {
    ...journalDashboardGraphField,
    component: ThroughputGraphField,
    extractProps: () => ({ graphType: "bar" }),
});
