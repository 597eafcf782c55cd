import { registry } from "@web/core/registry";
import { useService } from "@web/core/utils/hooks";
import { Layout } from "@web/search/layout";
import { standardActionServiceProps } from "@web/webclient/actions/action_service";

import { Component, onWillStart, status, useState } from "@odoo/owl";

import { usePressButton } from "../../queue_buttons/queue_buttons";
import { useQueueUpdates } from "../../queue_updates/queue_updates";
import { DashboardTotals } from "../dashboard_totals/dashboard_totals";
import { FirstSteps } from "../first_steps/first_steps";
import { Incidents } from "../incidents/incidents";
import { QueueCard } from "../queue_card/queue_card";

const MODEL = "llm.generation.queue";

/** All queues at a glance, as they are now. The server says what is drawn: `get_dashboard()`. */
export class GenerationDashboard extends Component {
    static template = "llm_generate_job.GenerationDashboard";
    static components = { DashboardTotals, FirstSteps, Incidents, Layout, QueueCard };
    static props = { ...standardActionServiceProps };

    setup() {
        this.orm = useService("orm");
        this.action = useService("action");
        this.pressButton = usePressButton(() => this.load());
        this.loads = 0;
        this.state = useState({
            ...{ cards: [], totals: null, incidents: [], steps: [] },
            ...{ busyId: false, isBusy: false },
        });
        onWillStart(() => this.load());
        this.scheduleLoad = useQueueUpdates(() => this.load());
    }

    async load() {
        if (status(this) === "destroyed") {
            return; // a button has opened another page
        }
        const number = ++this.loads;
        const told = await this.orm.silent.call(MODEL, "get_dashboard");
        if (number === this.loads) {
            Object.assign(this.state, told, { cards: this.keepPlaces(told.cards) });
        }
    }

    /** The server puts trouble first; a card that is shown stays where it is, under the mouse. */
    keepPlaces(cards) {
        const places = new Map(this.state.cards.map((card, index) => [card.id, index]));
        const place = (card) => places.get(card.id) ?? places.size;
        return cards.sort((one, other) => place(one) - place(other));
    }

    async onPress(card, button) {
        this.state.busyId = card.id;
        try {
            await this.pressButton(card.id, button);
        } finally {
            this.state.busyId = false;
        }
    }

    async onPressIncident(incident, button) {
        const { queue_id: queueId, error_type: errorType, since } = incident;
        const args = [[queueId], button.name, errorType, since];
        this.state.isBusy = true;
        try {
            const result = await this.orm.call(MODEL, "press_incident_button", args);
            const options = result.target === "new" ? { onClose: () => this.load() } : {};
            await this.action.doAction(result, options);
            await this.load();
        } finally {
            this.state.isBusy = false;
        }
    }

    async onOpenJobs(card) {
        this.action.doAction(await this.orm.call(MODEL, "action_view_jobs", [[card.id]]));
    }

    onOpenQueue(card) {
        return this.action.doAction({
            type: "ir.actions.act_window",
            res_model: MODEL,
            res_id: card.id,
            views: [[false, "form"]],
        });
    }
}

registry.category("actions").add("llm_generation_dashboard", GenerationDashboard);
