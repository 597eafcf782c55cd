import { browser } from "@web/core/browser/browser";
import { _t } from "@web/core/l10n/translation";

import { Component, onMounted, onWillUnmount, onWillUpdateProps, useState } from "@odoo/owl";

import { formatSeconds } from "../../duration_field/duration_field";

/** A time that goes on by itself: `up` since something began, `down` until it ends. */
export class TickingTime extends Component {
    static template = "llm_generate_job.TickingTime";
    static props = {
        seconds: Number,
        direction: { type: String, validate: (direction) => ["up", "down"].includes(direction) },
        onEnd: { type: Function, optional: true },
    };

    setup() {
        this.state = useState({ passed: 0 });
        this.begin(this.props);
        onWillUpdateProps((props) => {
            if (props.seconds !== this.props.seconds) {
                this.begin(props);
            }
        });
        onMounted(() => {
            this.interval = browser.setInterval(() => this.tick(), 1000);
        });
        onWillUnmount(() => browser.clearInterval(this.interval));
    }

    begin(props) {
        this.began = Date.now();
        this.hasEnded = props.seconds <= 0;
        this.state.passed = 0;
    }

    tick() {
        this.state.passed = (Date.now() - this.began) / 1000;
        if (this.props.direction === "down" && !this.seconds && !this.hasEnded) {
            this.hasEnded = true;
            this.props.onEnd?.();
        }
    }

    get seconds() {
        const { seconds, direction } = this.props;
        const { passed } = this.state;
        return direction === "up" ? seconds + passed : Math.max(0, seconds - passed);
    }

    get text() {
        // A timer fires a millisecond early or late: to the next lower or higher second, the same
        // one would be shown twice.
        const whole = Math.round(this.seconds);
        return whole < 10 ? _t("%s s", whole) : formatSeconds(whole);
    }
}
