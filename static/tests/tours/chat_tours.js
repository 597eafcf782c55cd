import { registry } from "@web/core/registry";

const tours = registry.category("web_tour.tours");

/** The same of the family's chat page, and of the conversation where there is no such page. */
const page = registry.category("services").contains("llm.store")
    ? {
          input: ".o-llm-composer-area .o-mail-Composer-input:enabled",
          answer: ".o-llm-thread-area .o-mail-Message",
          waiting: ".o_llm_generation_status:contains('Paused by an administrator')",
          cancel: ".o_llm_generation_status button:contains('Cancel')",
          cancelled: ".o_llm_generation_status:contains('The answer was cancelled')",
          failure: ".o_llm_generation_status.alert-danger",
          retry: ".o_llm_generation_status button:contains('Retry')",
          idle: ".o-llm-composer-area:not(:has(.o_llm_generation_status))",
      }
    : {
          input: ".o_llm_input textarea:enabled",
          answer: ".o_llm_message[data-role=assistant]",
          waiting: ".o_llm_job:contains('Paused by an administrator')",
          cancel: ".o_llm_stop:contains('Cancel')",
          cancelled: ".o_llm_job:contains('Cancelled')",
          failure: ".o_llm_failure",
          retry: ".o_llm_retry",
          idle: ".o_llm_conversation:not(:has(.o_llm_job, .o_llm_failure))",
      };

const say = (text) => [
    { trigger: page.input, run: `edit ${text}` },
    { trigger: page.input, run: "press Enter" },
];

/** Nobody is told of an error that is none. */
const quiet = { trigger: "body:not(:has(.o_notification .bg-danger, .o_error_dialog))" };

tours.add("llm_chat_page_answer_tour", {
    steps: () => [
        ...say("How are you?"),
        { trigger: `${page.answer}:contains('Hello')` },
        { trigger: page.idle },
        quiet,
    ],
});

tours.add("llm_chat_page_cancel_tour", {
    steps: () => [
        ...say("How are you?"),
        { trigger: page.waiting },
        quiet,
        { trigger: page.cancel, run: "click" },
        { trigger: page.cancelled },
        quiet,
        { content: "more can be asked", trigger: page.input },
    ],
});

tours.add("llm_chat_page_return_tour", {
    steps: () => [
        { content: "what waits since before is shown", trigger: page.waiting },
        { trigger: page.cancel, run: "click" },
        { trigger: page.cancelled },
        quiet,
    ],
});

tours.add("llm_chat_page_error_tour", {
    steps: () => [
        ...say("How are you?"),
        { trigger: `${page.failure}:contains('At least one message')` },
        quiet,
        { trigger: page.retry, run: "click" },
        { trigger: `${page.answer}:contains('Hello')` },
        { trigger: page.idle },
    ],
});
