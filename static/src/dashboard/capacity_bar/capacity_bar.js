import { _t } from "@web/core/l10n/translation";

import { Component } from "@odoo/owl";

/** How many of the slots are taken, as a bar and in figures. */
export class CapacityBar extends Component {
    static template = "llm_generate_job.CapacityBar";
    static props = { running: Number, limit: Number };

    get percent() {
        const { running, limit } = this.props;
        return limit ? Math.min(100, (100 * running) / limit) : 0;
    }

    get text() {
        const { running, limit } = this.props;
        return this.isFull
            ? _t("%(running)s of %(limit)s (full)", { running, limit })
            : _t("%(running)s of %(limit)s", { running, limit });
    }

    get isFull() {
        return this.props.limit > 0 && this.props.running >= this.props.limit;
    }
}
