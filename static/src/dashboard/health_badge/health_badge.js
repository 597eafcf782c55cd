import { Component } from "@odoo/owl";

const LOOKS = {
    healthy: { icon: "fa-check-circle", colour: "text-success" },
    warning: { icon: "fa-exclamation-triangle", colour: "text-warning" },
    critical: { icon: "fa-times-circle", colour: "text-danger" },
    disabled: { icon: "fa-pause-circle", colour: "text-muted" },
};

/** Health as an icon of its own shape and a word, for whoever does not see the colour. */
export class HealthBadge extends Component {
    static template = "llm_generate_job.HealthBadge";
    static props = { health: String, label: String, count: { type: Number, optional: true } };

    get look() {
        return LOOKS[this.props.health];
    }
}
