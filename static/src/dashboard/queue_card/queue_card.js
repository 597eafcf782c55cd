import { _t } from "@web/core/l10n/translation";
import { formatFloat, humanNumber } from "@web/core/utils/numbers";

import { Component } from "@odoo/owl";

import { formatSeconds } from "../../duration_field/duration_field";
import { QueueButtons } from "../../queue_buttons/queue_buttons";
import { CapacityBar } from "../capacity_bar/capacity_bar";
import { HealthBadge } from "../health_badge/health_badge";
import { HourBars } from "../hour_bars/hour_bars";
import { TickingTime } from "../ticking_time/ticking_time";

/** One queue: how it is, why, what it does, and what can be done about it. */
export class QueueCard extends Component {
    static template = "llm_generate_job.QueueCard";
    static components = { CapacityBar, HealthBadge, HourBars, QueueButtons, TickingTime };
    static props = {
        card: Object,
        isBusy: Boolean,
        onPress: Function,
        onOpenJobs: Function,
        onOpenQueue: Function,
        onCooldownEnd: Function,
    };

    get titleId() {
        return `o_llm_queue_${this.props.card.id}`;
    }

    get successRate() {
        const { ended, success_rate: rate } = this.props.card;
        if (!ended) {
            return "–";
        }
        return `${formatFloat(rate, { digits: [16, 1], trailingZeros: false })} %`;
    }

    get waiting() {
        const { waiting, delayed } = this.props.card;
        return delayed
            ? _t("%(waiting)s (%(delayed)s later)", {
                  waiting: this.human(waiting),
                  delayed: this.human(delayed),
              })
            : this.human(waiting);
    }

    get ended() {
        const { ended, failed } = this.props.card;
        return failed
            ? _t("%(ended)s ended in 24 hours, %(failed)s of them failed (hatched)", {
                  ended: this.human(ended),
                  failed: this.human(failed),
              })
            : _t("%s ended in 24 hours", this.human(ended));
    }

    human(number) {
        return humanNumber(number, { minDigits: 4 });
    }

    time(seconds) {
        return formatSeconds(seconds) || "–";
    }
}
