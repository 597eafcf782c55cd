import { registry } from "@web/core/registry";
import { GraphRenderer } from "@web/views/graph/graph_renderer";
import { graphView } from "@web/views/graph/graph_view";

import { STATE_COLORS } from "@llm_generate_job/job_state/state_colors";

/** A graph of jobs: a state has the color that it has elsewhere, and what is counted no decimals. */
export class StateGraphRenderer extends GraphRenderer {
    /** Where the state stands among the groups; -1 for nowhere. */
    get stateIndex() {
        return this.model.metaData.groupBy.findIndex(({ fieldName }) => fieldName === "state");
    }

    /** Return the color of what one sees under a label, nothing where no state is told by it. */
    colorOf(label, index) {
        const { selection } = this.model.metaData.fields.state;
        const text = label?.split(" / ")[index];
        return STATE_COLORS[selection.find(([, name]) => name === text)?.[0]];
    }

    paint(data, property) {
        const index = this.stateIndex;
        for (const dataset of index < 0 ? [] : data.datasets) {
            const color = index ? this.colorOf(dataset.label, index - 1) : null;
            if (color) {
                dataset[property] = color;
            } else if (!index && property === "backgroundColor") {
                const given = dataset.backgroundColor;
                dataset.backgroundColor = data.labels.map(
                    (label, at) =>
                        this.colorOf(label, 0) || (Array.isArray(given) ? given[at] : given),
                );
            }
        }
        return data;
    }

    getBarChartData() {
        return this.paint(super.getBarChartData(), "backgroundColor");
    }

    getLineChartData() {
        return this.paint(super.getLineChartData(), "borderColor");
    }

    getPieChartData() {
        const data = super.getPieChartData();
        const index = this.stateIndex;
        for (const dataset of index < 0 ? [] : data.datasets) {
            dataset.backgroundColor = dataset.backgroundColor?.map(
                (color, at) => this.colorOf(data.labels[at], index) || color,
            );
        }
        return data;
    }

    getScaleOptions() {
        const options = super.getScaleOptions();
        const { measure, measures } = this.model.metaData;
        if (options.y && measures[measure].type === "integer") {
            options.y.ticks.precision = 0;
            options.y.ticks.callback = (value) => this.formatValue(value);
        }
        return options;
    }
}

registry.category("views").add("llm_state_graph", { ...graphView, Renderer: StateGraphRenderer });
