import { browser } from "@web/core/browser/browser";
import { _t } from "@web/core/l10n/translation";
import { registry } from "@web/core/registry";
import { useService } from "@web/core/utils/hooks";
import { useRecordObserver } from "@web/model/relational_model/utils";
import { standardWidgetProps } from "@web/views/widgets/standard_widget_props";

import { Component, onWillDestroy, useState } from "@odoo/owl";

import { useJobUpdates } from "../job_updates/job_updates";
import { reloadRecord } from "../live_record/live_record";

const FIELDS = [
    ...["state", "reason", "progress", "retry_at", "can_retry"],
    ...["retry_refusal", "finish_reason"],
];
/** A place in the queue changes without a message about it. */
const POLL_MILLISECONDS = 5000;

/** Says of a job that its answer is not all of what was asked for; nothing of others. */
export function unfinishedSentence(job) {
    const sentences = {
        length: _t("The answer is cut off: it reached its limit."),
        content_filter: _t("The answer is cut off: a filter stopped it."),
        refusal: _t("The model refused to answer."),
        tool_calls: _t("The model wanted to call more tools than it may."),
        cancelled: _t("The answer was cancelled before its end."),
        broken: _t("The answer broke off before its end."),
    };
    return (job?.state === "completed" && sentences[job.finish_reason]) || "";
}

/** Says of a thread that a generation waits or runs, or what is wrong with the last one. */
export class GenerationStatus extends Component {
    static template = "llm_generate_job.GenerationStatus";
    static props = ["*"];

    setup() {
        this.orm = useService("orm");
        this.state = useState({ job: null });
        useJobUpdates((jobs) => {
            if (jobs.some((job) => job.thread_id === this.resId)) {
                this.onJobUpdate();
            }
        });
        const stopWatching = useService("llm_job_notification").watch(() => this.resId);
        onWillDestroy(() => {
            stopWatching();
            this.isDestroyed = true;
            browser.clearTimeout(this.timeout);
        });
    }

    onJobUpdate() {
        this.load(this.resId);
    }

    async load(resId) {
        this.resId = resId;
        browser.clearTimeout(this.timeout);
        // A question that fails is asked again: a worker may have been replaced.
        const [job] = resId ? await this.readJob(resId).catch(() => [this.state.job]) : [];
        if (resId === this.resId && !this.isDestroyed) {
            this.state.job = job || null;
            browser.clearTimeout(this.timeout);
            if (this.isActive) {
                this.timeout = browser.setTimeout(() => this.load(resId), this.pollMilliseconds);
            }
        }
    }

    get pollMilliseconds() {
        return POLL_MILLISECONDS;
    }

    /** What has no end yet comes first, and then what ended last. */
    readJob(resId) {
        const domain = [
            ["thread_id", "=", resId],
            ["state", "!=", "draft"],
        ];
        const options = { limit: 1, order: "completed_at DESC, id DESC" };
        return this.orm.silent.searchRead("llm.generation.job", domain, FIELDS, options);
    }

    async cancel() {
        await this.orm.call("llm.thread", "action_cancel_generation", [[this.resId]]);
        await this.load(this.resId);
    }

    /** Of the job that is shown: in its thread another one may have failed. */
    async retry() {
        await this.orm.call("llm.generation.job", "action_retry", [[this.state.job.id]]);
        await this.load(this.resId);
    }

    get isActive() {
        return ["queued", "running"].includes(this.state.job?.state);
    }

    /** What failed, and is tried again by itself: nobody has to wait for that. */
    get isRetrying() {
        return this.state.job?.state === "failed" && Boolean(this.state.job.retry_at);
    }

    get isShown() {
        const { job } = this.state;
        return this.isActive || job?.state === "failed" || Boolean(unfinishedSentence(job));
    }

    get alertClass() {
        const ended = this.state.job?.state === "failed" ? "alert-danger" : "alert-warning";
        return this.isActive ? "alert-info" : ended;
    }

    get sentence() {
        const { job } = this.state;
        if (job.state === "queued") {
            return job.reason || _t("Waiting.");
        }
        if (job.state === "running") {
            return job.progress
                ? _t("The answer is being generated: %s%%.", Math.round(job.progress))
                : _t("The answer is being generated.");
        }
        if (job.state === "completed") {
            return unfinishedSentence(job);
        }
        if (job.retry_at) {
            return job.reason;
        }
        return _t("The last generation failed: %s", job.reason || _t("no reason is known."));
    }
}

/** Says it in a thread's form. */
class RecordGenerationStatus extends GenerationStatus {
    static props = { ...standardWidgetProps };

    setup() {
        super.setup();
        useRecordObserver((record) => this.load(record.resId));
    }

    onJobUpdate() {
        super.onJobUpdate();
        reloadRecord(this.props.record);
    }
}

const widget = { component: RecordGenerationStatus };
registry.category("view_widgets").add("llm_generation_status", widget);
