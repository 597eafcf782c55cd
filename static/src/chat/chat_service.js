import { RPCError } from "@web/core/network/rpc";
import { registry } from "@web/core/registry";

import { EventBus } from "@odoo/owl";

const THREAD = "llm.thread";

/**
 * Lets the family's own chat page ask through the queue.
 *
 * Its service, "llm.store", reads the answer as an event stream, and so holds a worker of the
 * server while it waits. Here it asks first; only where the thread answers directly it goes on as
 * ever. What is queued is followed over the bus, by `ChatStatus`. Whoever else extends that
 * service may load after us: its methods are replaced once it has started.
 */
export const chatService = {
    dependencies: ["llm.store", "mail.store", "notification", "orm"],

    start(_env, { "llm.store": llmStore, "mail.store": mailStore, notification, orm }) {
        const bus = new EventBus();
        /** Threads whose question is on its way to the server. */
        const asking = new Set();
        const answerDirectly = llmStore.startLLMStreaming.bind(llmStore);
        const handleStreamMessage = llmStore.handleStreamMessage?.bind(llmStore);

        const toldBefore = new Set();

        const isQueued = (threadId) =>
            llmStore.streamingThreads.has(threadId) && !llmStore.eventSources.has(threadId);

        /** Show what the server says of a thread: `llm.thread.get_generation_news()`. */
        function show(threadId, news) {
            if (["queued", "running"].includes(news.job?.state)) {
                llmStore.streamingThreads.add(threadId);
            } else if (isQueued(threadId) && !asking.has(threadId)) {
                llmStore.streamingThreads.delete(threadId);
            }
            mailStore.insert(news.data);
            const thread = mailStore.Thread.get({ model: THREAD, id: threadId });
            if (!thread?.isLoaded) {
                thread?.fetchNewMessages(); // has them; beside a record nobody else loads it
                return;
            }
            if (!news.message_ids.length) {
                return;
            }
            const told = news.message_ids.map((id) => mailStore["mail.message"].get(id));
            // What was told before and is no longer: notes of others were never told.
            const isGone = ({ id }) =>
                id >= news.since && toldBefore.has(id) && !news.message_ids.includes(id);
            const isNew = ({ id }) => !thread.messages.some((message) => message.id === id);
            thread.messages.filter(isGone).forEach((message) => message.delete());
            thread.messages.push(...told.filter((message) => message && isNew(message)));
            news.message_ids.forEach((id) => toldBefore.add(id));
        }

        /** Say why a question was refused, and give it back to who wrote it. */
        function refuse(threadId, message, error) {
            notification.add(error.data?.message || error.message, { type: "danger" });
            const composer = mailStore.Thread.get({ model: THREAD, id: threadId })?.composer;
            if (message && composer && !composer.composerText) {
                composer.composerText = message;
            }
        }

        async function ask(threadId, message, attachmentIds) {
            const kwargs = { message: message || false, attachment_ids: attachmentIds };
            try {
                return await orm.silent.call(THREAD, "ask_in_queue", [[threadId]], kwargs);
            } catch (error) {
                if (!(error instanceof RPCError)) {
                    throw error;
                }
                refuse(threadId, message, error);
                return null;
            }
        }

        async function startLLMStreaming(threadId, message, attachmentIds = []) {
            llmStore.stopStreaming(threadId);
            llmStore.streamingThreads.add(threadId);
            asking.add(threadId);
            let news = null;
            try {
                news = await ask(threadId, message, attachmentIds);
            } finally {
                asking.delete(threadId);
                if (!news) {
                    llmStore.streamingThreads.delete(threadId);
                }
            }
            if (news) {
                show(threadId, news);
                bus.trigger("ASKED", threadId);
            } else if (news === false) {
                await answerDirectly(threadId, message, attachmentIds);
            }
        }

        /** An answer that is queued after all, in the moment between both requests. */
        function onStreamMessage(threadId, event) {
            if (event.type === "follow" || (event.type === "error" && event.job_id)) {
                llmStore.stopStreaming(threadId); // `ChatStatus` goes on from here
            } else if (!["job_status", "cancelled"].includes(event.type)) {
                handleStreamMessage(threadId, event);
            }
        }

        Object.assign(llmStore, { startLLMStreaming });
        if (handleStreamMessage) {
            llmStore.handleStreamMessage = onStreamMessage;
        }
        if (llmStore.startGenerationStreaming) {
            llmStore.startGenerationStreaming = (threadId) => startLLMStreaming(threadId);
        }

        const cancel = (threadId) => orm.call(THREAD, "action_cancel_generation", [[threadId]]);

        return { bus, cancel, isQueued, show };
    },
};

// Other members of the LLM family have no such page: there is nothing to do then.
if (registry.category("services").contains("llm.store")) {
    registry.category("services").add("llm_generation_chat", chatService);
}
