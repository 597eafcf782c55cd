/* global AbortController, FormData */
import { browser } from "@web/core/browser/browser";
import { isMobileOS } from "@web/core/browser/feature_detection";
import { _t } from "@web/core/l10n/translation";
import { registry } from "@web/core/registry";
import { useService } from "@web/core/utils/hooks";
import { standardWidgetProps } from "@web/views/widgets/standard_widget_props";

import {
    Component,
    markup,
    onMounted,
    onWillStart,
    onWillUnmount,
    onWillUpdateProps,
    useEffect,
    useRef,
    useState,
} from "@odoo/owl";

import { readEvents } from "./event_reader";

const STREAM_URL = "/llm/thread/generate";

/**
 * The messages of a thread, and a box to say something.
 *
 * Another addon patches `readStream()` to answer in another way, and `stop()`.
 */
export class LlmConversation extends Component {
    static template = "llm_thread.Conversation";
    static props = { ...standardWidgetProps };

    setup() {
        this.orm = useService("orm");
        this.messagesRef = useRef("messages");
        this.inputRef = useRef("input");
        this.state = useState({ messages: [], text: "", generating: false, error: "" });
        this.bodies = new Map();
        this.isAtEnd = true;
        onWillStart(() => this.load(this.props.record.resId));
        onWillUpdateProps(async ({ record }) => {
            if (record.resId !== this.resId && !this.state.generating) {
                await this.load(record.resId);
            }
        });
        onMounted(() => {
            if (!this.props.record.resId) {
                // After the form, which puts the focus into its first field.
                browser.setTimeout(() => this.inputRef.el?.focus());
            }
        });
        onWillUnmount(() => this.stop());
        useEffect(
            (isGenerating) => {
                if (this.wasGenerating && !isGenerating) {
                    this.takeFocus();
                }
                this.wasGenerating = isGenerating;
            },
            () => [this.state.generating],
        );
        useEffect(
            () => this.scrollToEnd(),
            () => [this.state.messages.length, this.lastMessage?.body, this.state.error],
        );
    }

    async load(resId) {
        this.isAtEnd ||= resId !== this.resId;
        this.resId = resId;
        this.state.error = "";
        this.state.messages = resId
            ? await this.orm.call("llm.thread", "get_conversation", [[resId]])
            : [];
    }

    /** Send the text of the box. */
    async send() {
        const text = this.state.text.trim();
        if (!text || this.state.generating) {
            return;
        }
        this.state.generating = true;
        this.isAtEnd = true;
        let saved = false;
        try {
            saved = await this.props.record.save();
        } finally {
            this.state.generating = saved;
        }
        if (saved) {
            this.resId = this.props.record.resId;
            await this.generate(text);
        }
    }

    /** Let the model answer; without a text, what was said last. */
    async generate(text = "") {
        const known = this.state.messages.length;
        Object.assign(this.state, { generating: true, error: "", text: "" });
        this.abortController = new AbortController();
        try {
            await this.readStream(text);
        } catch (error) {
            if (error.name !== "AbortError") {
                this.state.error = _t("The connection to the server is lost. Try again.");
            }
        } finally {
            this.state.generating = false;
            this.abortController = null;
        }
        if (this.state.error && this.state.messages.length === known) {
            this.state.text = text; // nothing was posted: the user can send it again
        }
        await this.afterGenerate();
    }

    async readStream(text) {
        const body = new FormData();
        const params = { thread_id: this.resId, message: text, csrf_token: odoo.csrf_token };
        for (const [key, value] of Object.entries(params)) {
            body.append(key, value);
        }
        const { signal } = this.abortController;
        const response = await browser.fetch(STREAM_URL, { method: "POST", body, signal });
        if (!response.ok) {
            this.state.error = _t("The server refused the message. Reload the page.");
            return;
        }
        let ended = false;
        for await (const message of readEvents(response)) {
            ended = ["done", "error", "cancelled"].includes(message.type) || ended;
            this.onEvent(message);
        }
        if (!ended && !signal.aborted) {
            this.state.error = _t("The answer broke off. Try again.");
        }
    }

    /** Show what an event tells; types that are not known here are for other addons. */
    onEvent(event) {
        if (event.type === "error") {
            this.state.error = event.error;
        } else if (["message_create", "message_chunk", "message_update"].includes(event.type)) {
            this.putMessage(event.message);
        }
    }

    putMessage(message) {
        const index = this.state.messages.findIndex(({ id }) => id === message.id);
        if (index < 0) {
            this.state.messages.push(message);
        } else {
            this.state.messages[index] = message;
        }
    }

    /** The name of the thread may have followed from its first message. */
    async afterGenerate() {
        const { record } = this.props;
        if (record.resId === this.resId && !(await record.isDirty())) {
            await record.load();
        }
    }

    /**
     * Let somebody go on who waited. Whoever writes or reads elsewhere meanwhile, or has selected
     * something, is left there; on a phone the keys would cover the answer.
     */
    takeFocus() {
        const { activeElement } = document;
        const isFree = !activeElement || activeElement === document.body;
        const isHere = isFree || activeElement.closest(".o_llm_input");
        if (isHere && document.getSelection().isCollapsed && !isMobileOS()) {
            this.inputRef.el?.focus();
        }
    }

    /** End the answer that is being written; what came is kept. */
    stop() {
        this.abortController?.abort();
    }

    /** Whoever reads what was said before is left there. */
    onScroll({ target: list }) {
        this.isAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
    }

    scrollToEnd() {
        const list = this.messagesRef.el;
        if (this.isAtEnd) {
            list.scrollTop = list.scrollHeight;
        }
    }

    /** Not by `t-model`: it leaves a text that is emptied in the frame in which it was typed. */
    onInput(ev) {
        this.state.text = ev.target.value;
    }

    onInputKeydown(ev) {
        // The keys of a phone have no other way to a second line.
        if (ev.key === "Enter" && !ev.shiftKey && !ev.isComposing && !isMobileOS()) {
            ev.preventDefault();
            this.send();
        }
    }

    get lastMessage() {
        return this.state.messages.at(-1);
    }

    /** Whether the answer has not begun yet. */
    get isWaiting() {
        return this.state.generating && this.lastMessage?.llm_role !== "assistant";
    }

    get isWriting() {
        return this.state.generating && this.lastMessage?.llm_role === "assistant";
    }

    get canRetry() {
        return !this.state.generating && this.state.messages.length > 0 && !this.state.text;
    }

    /**
     * The server has sanitized the bodies of messages, as all HTML fields.
     *
     * The same object for the same body: of another one the element would be made anew, with what
     * is selected and focused in it.
     */
    bodyOf({ id, body }) {
        if (this.bodies.get(id)?.toString() !== body) {
            this.bodies.set(id, markup(body));
        }
        return this.bodies.get(id);
    }

    toolDetailsOf(message) {
        const { arguments: given, result, error } = message.body_json || {};
        return JSON.stringify(error ? { given, error } : { given, result }, null, 2);
    }

    bubbleClass(message) {
        if (message.is_error) {
            return "o_llm_error alert alert-warning mb-0";
        }
        return message.llm_role === "user" ? "o_llm_user text-bg-primary" : "bg-200";
    }
}

registry.category("view_widgets").add("llm_conversation", { component: LlmConversation });
