import { registry } from "@web/core/registry";

const answer = (text) =>
    `.o_llm_message[data-role=assistant]:last .o_llm_bubble:contains(${JSON.stringify(text)})`;

const say = (text) => [
    { trigger: ".o_llm_input textarea:enabled", run: `edit ${text}` },
    { trigger: ".o_llm_input textarea", run: "press Enter" },
];

registry.category("web_tour.tours").add("llm_conversation_tour", {
    steps: () => [
        ...say("What is 6 x 7?"),
        { content: "the question", trigger: ".o_llm_message[data-role=user]:contains('6 x 7')" },
        { content: "the beginning of the answer", trigger: answer("It is") },
        { content: "nothing can be sent meanwhile", trigger: ".o_llm_input textarea:disabled" },
        { trigger: ".o_llm_stop" },
        { content: "the whole answer in place", trigger: answer("It is 42 <b>sure</b>.") },
        {
            content: "who has no mouse gets to it, and each script has its direction",
            trigger: ".o_llm_messages[tabindex='0'][role=log] .o_llm_bubble[dir=auto]",
        },
        {
            content: "one answer only",
            trigger: ".o_llm_messages:not(:has([data-role=assistant] ~ div))",
        },
        ...say("And 6 x 8?"),
        {
            content: "what went wrong",
            trigger: ".o_llm_failure:contains('did not answer in time')",
        },
        { trigger: ".o_llm_bubble.o_llm_error:contains('It')" },
        { trigger: ".o_llm_retry", run: "click" },
        { content: "the answer after all", trigger: answer("48") },
        { trigger: "body:not(:has(.o_llm_failure))" },
        {
            content: "the name follows from the question",
            trigger: ".o_breadcrumb .active:contains('What is 6 x 7?')",
        },
    ],
});

registry.category("web_tour.tours").add("llm_conversation_stop_tour", {
    steps: () => [
        ...say("Count"),
        { trigger: answer("one") },
        { trigger: ".o_llm_stop", run: "click" },
        { content: "something else can be said", trigger: ".o_llm_input textarea:enabled" },
        { trigger: "body:not(:has(.o_llm_failure))" },
        ...say("Go on"),
        { trigger: answer("four") },
        { trigger: ".o_llm_input textarea:enabled" },
    ],
});

registry.category("web_tour.tours").add("llm_thread_new_tour", {
    steps: () => [
        { trigger: ".o_list_button_add, .o-kanban-button-new", run: "click" },
        { trigger: ".o_llm_empty" },
        ...say("Hello"),
        { trigger: ".o_llm_message[data-role=assistant]:contains('Good day')" },
        { trigger: ".o_llm_input textarea:enabled" },
    ],
});
