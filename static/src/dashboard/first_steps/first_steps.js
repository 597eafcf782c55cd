import { _t } from "@web/core/l10n/translation";
import { registry } from "@web/core/registry";
import { useService } from "@web/core/utils/hooks";
import { Layout } from "@web/search/layout";
import { FormViewDialog } from "@web/views/view_dialogs/form_view_dialog";
import { standardActionServiceProps } from "@web/webclient/actions/action_service";

import { Component, onWillStart, useState } from "@odoo/owl";

/** Leads from nothing to the first answer. The server says what is done: `get_first_steps()`. */
export class FirstSteps extends Component {
    static template = "llm_generate_job.FirstSteps";
    static props = {};

    setup() {
        this.action = useService("action");
        this.dialog = useService("dialog");
        this.orm = useService("orm");
        this.state = useState({ steps: [], isTesting: false, told: null });
        onWillStart(() => this.load());
    }

    async load() {
        Object.assign(this.state, await this.orm.call("llm.thread", "get_first_steps"));
    }

    get next() {
        return this.state.steps.find((step) => !this.isDone(step));
    }

    /** A provider that was tested and does not answer is not ready, whatever models it has. */
    isDone(step) {
        return step.done && !(step.name === "test" && this.state.told?.is_fine === false);
    }

    buttonOf(step) {
        return { provider: _t("Add a Provider"), test: _t("Test"), question: _t("Ask") }[step.name];
    }

    onClick(step) {
        if (step.name === "provider") {
            return this.openProvider(false);
        }
        return step.name === "test" ? this.test() : this.ask();
    }

    openProvider(resId) {
        this.dialog.add(FormViewDialog, {
            resModel: "llm.provider",
            resId,
            title: resId ? _t("Provider") : _t("Add a Provider"),
            context: resId ? {} : this.state.defaults || {},
            onRecordSaved: () => this.onSaved(),
        });
    }

    /** Whoever sets a provider up wants to know whether it answers. */
    async onSaved() {
        await this.load();
        await this.test();
    }

    async test() {
        Object.assign(this.state, { isTesting: true, told: null });
        try {
            const ids = [[this.state.provider]];
            const { params } = await this.orm.call("llm.provider", "action_test", ids);
            this.state.told = params;
        } finally {
            this.state.isTesting = false;
        }
        await this.load();
    }

    /** What the app opens, now that there is something to ask. */
    open() {
        return this.action.doAction("llm_generate_job.llm_open_server_action");
    }

    /** A new conversation; where another page is for asking, that one. */
    ask() {
        const { chat } = this.state;
        const isThread = chat.res_model === "llm.thread";
        return this.action.doAction(isThread ? { ...chat, views: [[false, "form"]] } : chat);
    }
}

/** Where LLM opens while nobody can ask anything yet. */
export class FirstStepsPage extends Component {
    static template = "llm_generate_job.FirstStepsPage";
    static components = { FirstSteps, Layout };
    static props = { ...standardActionServiceProps };
}

registry.category("actions").add("llm_first_steps", FirstStepsPage);
