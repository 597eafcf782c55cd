import { Composer } from "@mail/core/common/composer";
import { registry } from "@web/core/registry";
import { registerTemplateExtension } from "@web/core/templates";
import { useService } from "@web/core/utils/hooks";
import { patch } from "@web/core/utils/patch";

import { ChatStatus } from "./chat_status";

/** Puts the status of the queue above the composer of a chat, wherever that is. */
const queuedComposer = {
    setup() {
        super.setup();
        this.queuedChat = useService("llm_generation_chat");
    },

    /** The conversation that is written to, if it is one with a model. */
    get chatThreadId() {
        const { message, thread } = this.props.composer;
        return !message && thread?.model === "llm.thread" && Number(thread.id);
    },

    stopStreaming() {
        if (this.chatThreadId && this.queuedChat.isQueued(this.chatThreadId)) {
            return this.queuedChat.cancel(this.chatThreadId);
        }
        return super.stopStreaming();
    },
};

if (registry.category("services").contains("llm.store")) {
    Object.assign(Composer.components, { ChatStatus });
    patch(Composer.prototype, queuedComposer);
    // The template of mail's own composer: those of the pages differ.
    registerTemplateExtension(
        "mail.Composer",
        "/llm_generate_job/static/src/chat/composer_patch.js",
        `<t t-inherit="mail.Composer" t-inherit-mode="extension">
            <xpath expr="//div[hasclass('o-mail-Composer')]" position="before">
                <div t-if="chatThreadId" class="o_llm_chat_status">
                    <ChatStatus threadId="chatThreadId"/>
                </div>
            </xpath>
        </t>`,
    );
}
