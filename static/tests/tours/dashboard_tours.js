import { registry } from "@web/core/registry";
import { rpc } from "@web/core/network/rpc";

const tours = registry.category("web_tour.tours");

const card = (name, ...rest) => [`.o_llm_queue_card:contains('${name}')`, ...rest].join("");
const figure = (name, figure, text) => card(name, ` [data-figure=${figure}]:contains('${text}')`);
const health = (name, label) => card(name, ` .o_llm_health:contains('${label}')`);
const button = (name, button) => card(name, ` [data-button=${button}]`);

const openMenu = (name) => [
    {
        trigger: ".o_menu_sections [data-menu-xmlid='llm_generate_job.llm_generation_menu']",
        run: "click",
    },
    { trigger: `.o-dropdown--menu .o-dropdown-item:contains('${name}')`, run: "click" },
];

let clicks = 0;
/** A click into a field that has the focus is none that anybody needs. */
const count = (ev) => (clicks += ev.target === document.activeElement ? 0 : 1);

tours.add("llm_generation_first_run_tour", {
    steps: () => [
        {
            content: "from now on each click counts",
            trigger: ".o_navbar_apps_menu button",
            run: () => {
                clicks = 0;
                document.addEventListener("pointerdown", count, { capture: true });
            },
        },
        { trigger: ".o_navbar_apps_menu button", run: "click" },
        { trigger: ".dropdown-item[data-menu-xmlid='llm.menu_llm_root']", run: "click" },
        {
            content: "nothing is there: the first step is the provider",
            trigger: ".o_llm_step[data-step=provider] .btn-primary",
            run: "click",
        },
        { trigger: ".modal [name=name] input:value(Direct)" },
        { trigger: ".modal [name=api_base] input", run: "edit https://llm.example/v1" },
        { trigger: ".modal .o_form_button_save", run: "click" },
        { trigger: ".o_llm_step[data-step=provider][data-done]" },
        {
            content: "it is tested: its models are taken, and one says a word",
            trigger: ".o_llm_step[data-step=test][data-done] .o_llm_told:contains('tiny answered')",
        },
        {
            content: "and a conversation, to ask in",
            trigger: ".o_llm_step[data-step=question] .btn-primary",
            run: "click",
        },
        { trigger: ".o_llm_input textarea:focus" },
        { trigger: ".o_llm_input textarea:enabled", run: "edit How are you?" },
        { trigger: ".o_llm_input textarea", run: "press Enter" },
        { trigger: ".o_llm_message[data-role=assistant]:last .o_llm_bubble:contains('Hello')" },
        {
            content: "at most six clicks led here",
            trigger: ".o_llm_message",
            run: () => {
                document.removeEventListener("pointerdown", count, { capture: true });
                if (clicks > 6) {
                    throw new Error(`It took ${clicks} clicks.`);
                }
            },
        },
        ...openMenu("Dashboard"),
        {
            content: "the first job is there, and the steps are gone",
            trigger: card("Direct", " .o_llm_ended:contains('1')"),
        },
        { trigger: "body:not(:has(.o_llm_first_steps))" },
        {
            content: "from now on LLM opens the conversations",
            trigger: ".o_navbar_apps_menu button",
            run: "click",
        },
        { trigger: ".dropdown-item[data-menu-xmlid='llm.menu_llm_root']", run: "click" },
        { trigger: ".o_list_view .o_data_row:contains('How are you?')" },
    ],
});

tours.add("llm_generation_first_steps_mistake_tour", {
    steps: () => [
        { trigger: ".o_llm_step[data-step=test] .btn-primary", run: "click" },
        {
            content: "what is wrong stands where it was asked",
            trigger: ".o_llm_step:not([data-done]) .o_llm_told.text-danger:contains('No such key')",
        },
        { trigger: ".o_llm_correct", run: "click" },
        { trigger: ".modal [name=api_base] input", run: "edit https://right.example/v1" },
        { trigger: ".modal .o_form_button_save", run: "click" },
        { trigger: ".o_llm_step[data-step=test][data-done] .o_llm_told.text-success" },
    ],
});

tours.add("llm_generation_first_steps_done_tour", {
    steps: () => [
        { trigger: ".o_llm_first_steps .btn-primary:contains('Ask Something')", run: "click" },
        { trigger: ".o_list_view .o_data_row:contains('Asked before')" },
    ],
});

tours.add("llm_generation_first_steps_user_tour", {
    steps: () => [
        { trigger: ".o_navbar_apps_menu button", run: "click" },
        { trigger: ".dropdown-item[data-menu-xmlid='llm.menu_llm_root']", run: "click" },
        {
            trigger:
                ".o_llm_first_steps:not(:has(.btn)) .o_llm_whom_to_ask:contains('generation_manager')",
        },
    ],
});

tours.add("llm_generation_dashboard_live_tour", {
    steps: () => [
        { trigger: figure("Native", "waiting", "1") },
        {
            content: "mark the page: it must not be loaded again",
            trigger: card("Native", " .o_llm_ended:contains('0')"),
            run: ({ anchor }) => (anchor.dataset.mark = "here"),
        },
        {
            content: "a runner elsewhere takes the job and ends it",
            trigger: card("Native"),
            run: ({ anchor }) =>
                rpc("/web/dataset/call_kw/llm.generation.queue/action_process_queue", {
                    model: "llm.generation.queue",
                    method: "action_process_queue",
                    args: [[Number(anchor.dataset.queue)]],
                    kwargs: {},
                }),
        },
        {
            content: "the very same page shows it",
            trigger: card("Native", " .o_llm_ended[data-mark=here]:contains('1')"),
        },
        { trigger: figure("Native", "waiting", "0") },
        { trigger: figure("Native", "success", "100 %") },
        { trigger: figure("Native", "tokens", "9") },
    ],
});

tours.add("llm_generation_dashboard_manager_tour", {
    steps: () => [
        ...openMenu("Dashboard"),
        { trigger: health("Native", "Healthy") },
        { trigger: button("Native", "pause"), run: "click" },
        { trigger: ".o_notification:contains('Native starts nothing more')" },
        { trigger: health("Native", "Paused") },
        { trigger: card("Native", " .o_llm_reason:contains('nothing starts')") },
        {
            content: "what is paused cannot be paused, nor processed",
            trigger: card(
                "Native",
                ":not(:has([data-button=pause])):has([data-button=process][aria-disabled=true])",
            ),
        },
        { trigger: button("Native", "resume"), run: "click" },
        { trigger: health("Native", "Healthy") },
        { trigger: button("Native", "clear"), run: "click" },
        { trigger: ".modal-title:contains('Cancel the Job?')" },
        { trigger: ".modal .btn-secondary:contains('Keep It')", run: "click" },
        { trigger: figure("Native", "waiting", "1") },
        { trigger: button("Native", "clear"), run: "click" },
        { trigger: ".modal .btn-primary:contains('Cancel the Job')", run: "click" },
        { trigger: ".o_notification:contains('1 cancelled')" },
        { trigger: figure("Native", "waiting", "0") },
        { trigger: card("Native", " [data-button=clear][aria-disabled=true]") },
        { trigger: button("Native", "retry"), run: "click" },
        { trigger: ".o_notification:contains('1 retried')" },
        { trigger: card("Native", " [data-button=retry][aria-disabled=true]") },
        { trigger: card("Native", " .o_llm_open_jobs"), run: "click" },
        { trigger: ".o_list_view .o_data_row:contains('Native model')" },
    ],
});
