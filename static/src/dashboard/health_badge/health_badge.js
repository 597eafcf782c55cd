import { Component } from "@odoo/owl";

const LOOKS = {
    healthy: { icon: "fa-check-circle", color: "text-success" },
    warning: { icon: "fa-exclamation-triangle", color: "text-warning" },
    critical: { icon: "fa-times-circle", color: "text-danger" },
    disabled: { icon: "fa-pause-circle", color: "text-muted" },
};

/** Health as an icon of its own shape and a word, for whoever does not see the color. */
export class HealthBadge extends Component {
    static template = "llm_generate_job.HealthBadge";
    static props = { health: String, label: String, count: { type: Number, optional: true } };

    get look() {
        return LOOKS[this.props.health];
    }
}
