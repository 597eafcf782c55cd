import { Component } from "@odoo/owl";

/** What failed lately, by its cause, and what can be done about all of it at once. */
export class Incidents extends Component {
    static template = "llm_generate_job.Incidents";
    static props = { incidents: Array, isBusy: Boolean, onPress: Function };

    keyOf({ queue_id: queueId, error_type: errorType }) {
        return `${queueId} ${errorType}`;
    }
}
