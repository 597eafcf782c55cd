import { _t } from "@web/core/l10n/translation";
import { useBus, useService } from "@web/core/utils/hooks";

import { useEffect } from "@odoo/owl";

import { GenerationStatus } from "../generation_status/generation_status";

/** Between two looks at an answer that is being written. */
const GROWTH_MILLISECONDS = 1000;

/** Says above the composer of a chat where its answer is, and keeps the messages up to date. */
export class ChatStatus extends GenerationStatus {
    static props = { threadId: Number };

    setup() {
        super.setup();
        this.chat = useService("llm_generation_chat");
        const reload = () => this.load(this.props.threadId);
        useBus(useService("bus_service"), "BUS:RECONNECT", reload);
        useBus(this.chat.bus, "ASKED", ({ detail }) => detail === this.resId && reload());
        useEffect(
            () => {
                reload();
            },
            () => [this.props.threadId],
        );
    }

    async readJob(resId) {
        const news = await this.orm.silent.call("llm.thread", "get_generation_news", [[resId]]);
        this.chat.show(resId, news);
        return news.job ? [news.job] : [];
    }

    get pollMilliseconds() {
        return this.state.job.state === "running" ? GROWTH_MILLISECONDS : super.pollMilliseconds;
    }

    get isCancelled() {
        return this.state.job?.state === "cancelled";
    }

    get isShown() {
        return super.isShown || this.isCancelled;
    }

    get alertClass() {
        return this.isCancelled ? "alert-secondary" : super.alertClass;
    }

    get sentence() {
        return this.isCancelled ? _t("The answer was cancelled.") : super.sentence;
    }
}
