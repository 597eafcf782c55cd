import { registry } from "@web/core/registry";
import {
    JournalDashboardGraphField,
    journalDashboardGraphField,
} from "@web/views/fields/journal_dashboard_graph/journal_dashboard_graph_field";

/** Bars of jobs by hour, with their numbers; they follow the record when it is read again. */
export class ThroughputGraphField extends JournalDashboardGraphField {
    static template = "llm_generate_job.ThroughputGraphField";

    get data() {
        return JSON.parse(this.props.record.data[this.props.name]);
    }

    set data(_value) {
        // The base class keeps what it read first.
    }

    getBarChartConfig() {
        const config = super.getBarChartConfig();
        config.options.animation = false;
        config.options.scales.y = { beginAtZero: true, ticks: { precision: 0 } };
        return config;
    }

    /** What the picture says, for those who do not see it. */
    get summary() {
        const [{ key, values }] = this.data;
        const busy = values.filter(({ value }) => value);
        return `${key}: ${busy.map(({ label, value }) => `${label} ${value}`).join(", ")}`;
    }
}

registry.category("fields").add("llm_throughput_graph", {
    ...journalDashboardGraphField,
    component: ThroughputGraphField,
    extractProps: () => ({ graphType: "bar" }),
});
