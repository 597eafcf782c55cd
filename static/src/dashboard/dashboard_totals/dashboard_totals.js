import { _t } from "@web/core/l10n/translation";
import { formatFloat, humanNumber } from "@web/core/utils/numbers";

import { Component } from "@odoo/owl";

import { CapacityBar } from "../capacity_bar/capacity_bar";
import { HealthBadge } from "../health_badge/health_badge";
import { TickingTime } from "../ticking_time/ticking_time";

/** All queues together, in one line. */
export class DashboardTotals extends Component {
    static template = "llm_generate_job.DashboardTotals";
    static components = { CapacityBar, HealthBadge, TickingTime };
    static props = { totals: Object };

    human(number) {
        return humanNumber(number, { minDigits: 4 });
    }

    get outcome() {
        const { success_rate: rate, failed } = this.props.totals;
        return _t("%(rate)s succeeded, %(failed)s failed", {
            rate: `${formatFloat(rate, { digits: [16, 1], trailingZeros: false })} %`,
            failed: this.human(failed),
        });
    }

    get jobsToday() {
        return _t("%s jobs today", this.human(this.props.totals.jobs_today));
    }
}
