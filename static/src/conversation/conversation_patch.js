import { browser } from "@web/core/browser/browser";
import { _t } from "@web/core/l10n/translation";
import { ConnectionLostError, RPCError } from "@web/core/network/rpc";
import { registry } from "@web/core/registry";
import { registerTemplateExtension } from "@web/core/templates";
import { patch } from "@web/core/utils/patch";

import { onWillUnmount, onWillUpdateProps, useEffect } from "@odoo/owl";

import { unfinishedSentence } from "../generation_status/generation_status";
import { addCopyButtons } from "../copy_code/copy_code";
import { useJobUpdates } from "../job_updates/job_updates";

/** Between two looks at a job that waits, and at an answer that is being written. */
const [POLL_MILLISECONDS, GROWTH_MILLISECONDS] = [5000, 1000];
/** Errors of what is deleted, or may not be read any more. */
const GONE = /\.(MissingError|AccessError)$/;
/** What is read of a job that has ended. */
const ENDED = [
    ...["state", "reason", "finish_reason", "input_message_id", "can_retry", "retry_refusal"],
    "retry_at",
];

/** The domain of the jobs whose answers are shown in a conversation. */
const answersIn = (resId) => [
    ["thread_id", "=", resId],
    ["post", "=", true],
];

/**
 * Lets a conversation ask through the queue. `state.job` is what was last told of the job that
 * answers; `ended` is set in it when it is over and still to be told.
 */
const queuedConversation = {
    setup() {
        super.setup();
        this.state.job = null;
        useJobUpdates((jobs) => this.onJobUpdates(jobs));
        useEffect(() => {
            addCopyButtons(this.messagesRef.el);
            this.scrollToEnd(); // they take room
        });
        onWillUpdateProps(async ({ record }) => {
            if (this.resId && record.resId !== this.resId && this.state.generating) {
                this.abortController?.abort();
                await this.generation;
                await this.load(record.resId);
            }
        });
        // Called before the one of the component, which stops.
        onWillUnmount(() => {
            this.isLeaving = true;
        });
    },

    /** A job that was queued elsewhere, or before the page was left, is followed. */
    async load(resId) {
        this.state.job = null;
        await super.load(resId);
        const job = resId && (await this.findActiveJob(resId));
        const ended = resId && !job && (await this.findUnfinishedJob(resId));
        // Meanwhile something may have been asked, or another conversation be shown.
        if (this.resId !== resId || this.state.generating || this.isLeaving) {
            return;
        }
        if (ended?.retry_at) {
            this.state.job = { ...ended, message: ended.reason, ended: false };
            this.generate();
        } else if (resId && !job) {
            this.state.job = ended;
            this.state.error = ended?.state === "failed" ? ended.reason : "";
        } else if (job) {
            const message = _t("Waiting for the answer…");
            this.state.job = { job_id: job.id, state: job.state, message };
            this.hasNews = true; // why it waits is read at once
            this.generate();
        }
    },

    async findActiveJob(resId) {
        const domain = [...answersIn(resId), ["state", "in", ["queued", "running"]]];
        const options = { limit: 1 };
        return (await this.orm.searchRead("llm.generation.job", domain, ["state"], options))[0];
    },

    /** The job that ended last, if it has no answer, or something is missing in it. */
    async findUnfinishedJob(resId) {
        const domain = [...answersIn(resId), ["state", "!=", "draft"]];
        const options = { limit: 1, order: "completed_at DESC, id DESC" };
        const [job] = await this.orm.searchRead("llm.generation.job", domain, ENDED, options);
        const asked = this.state.messages.findLast(({ llm_role: role }) => role === "user");
        const isStale = job?.input_message_id && asked?.id > job.input_message_id[0];
        const isTold = ["cancelled", "failed"].includes(job?.state) || unfinishedSentence(job);
        return isTold && !isStale ? { ...job, job_id: job.id, ended: true } : null;
    },

    /** What is asked elsewhere, or tried again, is shown; what is late about our own job is not. */
    async onJobUpdates(jobs) {
        const news = jobs.filter((job) => job.thread_id === this.resId);
        if (news.length) {
            this.wake();
        }
        if (!news.length || !this.isIdle) {
            return;
        }
        // Of our own job, too, where somebody else had it tried again and it was over at once.
        const isOpen = this.lastMessage?.llm_role === "user";
        const isAnswered = news.some(
            (job) => job.state === "completed" && (isOpen || job.id !== this.jobId),
        );
        const isNew = isAnswered || (await this.findActiveJob(this.resId));
        if (isNew && this.isIdle) {
            await this.load(this.resId);
        }
    },

    /** Following would close the box in which somebody writes. */
    get isIdle() {
        return !this.state.generating && !this.state.text && !this.isLeaving;
    },

    send() {
        this.isStopped = false;
        return super.send();
    },

    async generate(text = "") {
        if (text && this.isStopped) {
            // While the conversation was saved: it is not asked.
            Object.assign(this.state, { generating: false, text });
            return;
        }
        const { job } = this.state;
        if (!text && job?.ended && job.state === "failed") {
            await this.orm.call("llm.generation.job", "action_retry", [[job.job_id]]);
            this.state.job = { ...job, state: "queued", message: "", ended: false };
        } else if (text || !this.followedJob) {
            this.state.job = null;
        }
        this.isStopped = false;
        const typed = text ? "" : this.state.text;
        this.generation = super.generate(text);
        this.state.text = typed; // who only follows a job keeps what is not sent
        await this.generation;
        this.state.text = this.state.text || typed;
    },

    /** Follow the job by what the bus tells: a stream would keep a worker of the server busy. */
    async readStream(text) {
        const { signal } = this.abortController;
        if (!this.followedJob && !(await this.ask(text))) {
            return;
        }
        if (this.isStopped && this.canCancel) {
            await this.stop();
            await this.readNews();
        }
        while (this.followedJob && !signal.aborted) {
            await this.waitForNews(signal);
            if (!signal.aborted) {
                await this.readNews();
            }
        }
    },

    /** Queue the question; return whether it was taken. */
    async ask(text) {
        const kwargs = { message: text || false, use_queue: true };
        try {
            const ids = [[this.resId]];
            this.take(await this.orm.silent.call("llm.thread", "ask_in_queue", ids, kwargs));
        } catch (error) {
            if (!(error instanceof RPCError)) {
                throw error;
            }
            this.state.error = error.data?.message || error.message;
            return false;
        }
        try {
            await this.loadMessages();
        } catch (error) {
            if (!(error instanceof ConnectionLostError)) {
                throw error;
            }
            // The question was taken: it is shown with the next news.
        }
        return true;
    },

    /** A place in the queue changes, and an answer grows, without a message about it. */
    async waitForNews(signal) {
        const isGrowing = this.followedJob.state === "running";
        const milliseconds = isGrowing ? GROWTH_MILLISECONDS : POLL_MILLISECONDS;
        await new Promise((resolve) => {
            this.endWait = resolve;
            signal.addEventListener("abort", resolve);
            // What was told while the page read the messages is read at once.
            browser.setTimeout(resolve, this.hasNews ? 0 : milliseconds);
        });
        this.hasNews = false;
    },

    wake() {
        this.hasNews = true;
        this.endWait?.();
    },

    async readNews() {
        const ids = [[this.resId]];
        const { job_id: jobId, state } = this.followedJob;
        try {
            const news = await this.orm.silent.call("llm.thread", "get_generation_news", ids);
            this.take(news);
            if (state === "queued" && this.followedJob?.state === "queued") {
                if (this.jobId !== jobId) {
                    await this.loadMessages(); // somebody asked more, and is answered after it
                }
            } else {
                await this.loadMessages(news.since);
            }
        } catch (error) {
            if (error instanceof RPCError) {
                this.state.error = error.data?.message || error.message;
                this.abortController?.abort();
                if (GONE.test(error.exceptionName)) {
                    this.state.job = null; // there is nothing more to follow
                }
            } else if (!(error instanceof ConnectionLostError)) {
                throw error;
            }
            // A server that starts again: the job waits there, and so does the page.
        }
    },

    /** Show where the job stands: `llm.thread.get_generation_news()`. */
    take({ job }) {
        if (!job) {
            this.state.job = null;
            return;
        }
        const ended = !["queued", "running"].includes(job.state) && !job.retry_at;
        this.jobId = job.id;
        this.state.job = { ...job, job_id: job.id, ended };
        if (ended && job.state === "completed" && !unfinishedSentence(job)) {
            this.state.job = null;
        } else if (ended && job.state === "failed") {
            this.state.error = job.message;
        }
    },

    /** Read the messages again; those before the message `since` are as they were. */
    async loadMessages(since = 0) {
        const ids = [[this.resId]];
        const kwargs = { since: since || 0 };
        const messages = await this.orm.call("llm.thread", "get_conversation", ids, kwargs);
        const before = this.state.messages.filter(({ id }) => since && id < since);
        this.state.messages = [...before, ...messages];
    },

    /**
     * Who leaves the page only stops listening; who presses the button cancels the job, as soon as
     * there is one.
     */
    async stop() {
        if (this.isLeaving || !this.canCancel) {
            this.isStopped = !this.isLeaving;
            return super.stop();
        }
        const method = this.isRetrying ? "action_stop_retrying" : "action_cancel";
        await this.orm.call("llm.generation.job", method, [[this.state.job.job_id]]);
        this.wake();
    },

    /** What would be tried again later is tried now. */
    async tryNow() {
        await this.orm.call("llm.generation.job", "action_retry", [[this.state.job.job_id]]);
        this.wake();
    },

    get isRetrying() {
        return this.followedJob?.state === "failed";
    },

    get canCancel() {
        return ["queued", "running", "failed"].includes(this.followedJob?.state);
    },

    get canRetry() {
        const { job } = this.state;
        const isRefused = job?.ended && job.state === "failed" && job.can_retry === false;
        return super.canRetry && !isRefused;
    },

    get followedJob() {
        return this.state.job?.ended ? null : this.state.job;
    },

    get isWaiting() {
        return super.isWaiting && !this.state.job;
    },

    /** What is said of the job below the messages. */
    get jobText() {
        const { job } = this.state;
        if (job?.state === "cancelled") {
            return _t("Cancelled.");
        }
        if (job?.ended) {
            return job.state === "failed" ? job.retry_refusal || "" : unfinishedSentence(job);
        }
        // An answer that is being written speaks for itself.
        return this.followedJob && (job.state !== "running" || super.isWaiting) ? job.message : "";
    },

    /** Null leaves the label as it is; false would be written. */
    get stopLabel() {
        return this.canCancel ? _t("Cancel") : null;
    },
};

// Other members of the LLM family have no such component: there is nothing to patch then.
const conversation = registry.category("view_widgets").get("llm_conversation", null);
if (conversation) {
    const url = "/llm_generate_job/static/src/conversation/conversation_patch.js";
    patch(conversation.component.prototype, queuedConversation);
    registerTemplateExtension(
        "llm_thread.ConversationStatus",
        url,
        `<t t-inherit="llm_thread.ConversationStatus" t-inherit-mode="extension">
            <xpath expr="." position="inside"><t t-call="llm_generate_job.ConversationJob"/></xpath>
        </t>`,
    );
    registerTemplateExtension(
        "llm_thread.Conversation",
        url,
        `<t t-inherit="llm_thread.Conversation" t-inherit-mode="extension">
            <xpath expr="//button[hasclass('o_llm_stop')]" position="attributes">
                <attribute name="t-out">stopLabel</attribute>
            </xpath>
        </t>`,
    );
}
