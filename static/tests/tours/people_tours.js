import { rpc } from "@web/core/network/rpc";
import { registry } from "@web/core/registry";

const tours = registry.category("web_tour.tours");

const call = (model, method, args) =>
    rpc(`/web/dataset/call_kw/${model}/${method}`, { model, method, args, kwargs: {} });

/** The id of the first job in a state, as the user of the tour sees it. */
const findJob = async (state) => {
    const [id] = await call("llm.generation.job", "search", [[["state", "=", state]]]);
    return id;
};

const selectAll = { trigger: ".o_list_view thead .o_list_record_selector input", run: "click" };

const says = (text) => ({ trigger: `.o_notification_content:contains('${text}')` });

/** Pages that are left too early would leave their calls unanswered. */
const saved = { trigger: ".o_form_saved, .o_form_status_indicator_buttons.invisible" };

tours.add("llm_generation_bulk_retry_tour", {
    steps: () => [
        { trigger: ".o_data_row:contains('Refused')" },
        selectAll,
        { trigger: ".o_control_panel button[name=action_bulk_retry]", run: "click" },
        says("3 retried, 2 could not: "),
        says("would be refused again (1)"),
        says("did not fail (1)"),
        {
            content: "the list shows what came of it",
            trigger: ".o_data_row:contains('Mendable') [name=state]:contains('Queued')",
        },
        { trigger: ".o_data_row:contains('Refused') [name=state]:contains('Failed')" },
    ],
});

tours.add("llm_generation_bulk_filter_tour", {
    steps: () => [
        { content: "more than a page", trigger: ".o_pager_value:contains('1-80')" },
        selectAll,
        { trigger: ".o_control_panel .o_select_domain", run: "click" },
        { trigger: ".o_control_panel button[name=action_bulk_retry]", run: "click" },
        says("90 retried."),
        { trigger: ".o_data_row [name=state]:contains('Queued')" },
        { trigger: ".o_list_view:not(:has([name=state]:contains('Failed')))" },
    ],
});

tours.add("llm_generation_bulk_priority_tour", {
    steps: () => [
        { trigger: ".o_data_row:contains('Waiting')" },
        selectAll,
        { trigger: ".o_control_panel button:contains('Change Priority')", run: "click" },
        { trigger: ".modal .o_field_widget[name=priority] input", run: "edit 2" },
        { trigger: ".modal button[name=action_apply]", run: "click" },
        says("1 changed."),
        { trigger: "body:not(:has(.modal))" },
        selectAll,
        { trigger: ".o_control_panel button[name=action_bulk_cancel]", run: "click" },
        { trigger: ".modal button:contains('Cancel the Job')", run: "click" },
        says("1 cancelled."),
        { trigger: ".o_data_row:contains('Waiting') [name=state]:contains('Cancelled')" },
    ],
});

tours.add("llm_generation_job_user_tour", {
    steps: () => [
        {
            content: "a user retries and cancels own jobs, and does not jump the queue",
            trigger: ".o_data_row:contains('Mine')",
        },
        selectAll,
        {
            trigger:
                ".o_control_panel:has(button[name=action_bulk_cancel])" +
                ":not(:contains('Change Priority'))",
        },
        selectAll,
        { trigger: ".o_list_view:not(:has(.o_data_row_selected))" },
        { trigger: ".o_data_row:contains('Mine') .o_data_cell[name=name]", run: "click" },
        {
            content: "what is queued can be started or cancelled, and not retried",
            trigger:
                ".o_statusbar_buttons:has(button[name=action_start], button[name=action_cancel])" +
                ":not(:has(button[name=action_retry], button[name=action_queue]))",
        },
    ],
});

const dimmedRetry = "button[name=action_retry].opacity-50";

/** What to change instead, in the dialog that a click on the dimmed button opens. */
const saysWhatHelps = [
    { trigger: ".modal:contains('Ask it in other words')" },
    { trigger: ".modal .modal-footer button", run: "click" },
    { trigger: "body:not(:has(.modal))" },
];

tours.add("llm_generation_dimmed_retry_tour", {
    steps: () => [
        {
            content: "one of the two may be tried again",
            trigger: ".o_data_row:contains('Mendable') button[name=action_retry]:not(.opacity-50)",
        },
        { trigger: `.o_data_row:contains('Refused') ${dimmedRetry}`, run: "click" },
        ...saysWhatHelps,
        { trigger: ".o_data_row:contains('Refused') .o_data_cell[name=name]", run: "click" },
        { trigger: `.o_statusbar_buttons ${dimmedRetry}`, run: "click" },
        ...saysWhatHelps,
        { trigger: ".o_form_view .alert:contains('Ask it in other words')" },
    ],
});

tours.add("llm_generation_live_list_tour", {
    steps: () => [
        {
            content: "a job is cancelled elsewhere",
            trigger: ".o_data_row:contains('Mine') [name=state]:contains('Queued')",
            run: async () => {
                await call("llm.generation.job", "action_cancel", [[await findJob("queued")]]);
            },
        },
        {
            content: "nothing is reloaded",
            trigger: ".o_data_row:contains('Mine') [name=state]:contains('Cancelled')",
        },
    ],
});

tours.add("llm_generation_notification_tour", {
    steps: () => [
        {
            content: "the provider ends a job while its owner looks at something else",
            trigger: ".o_data_row:contains('Far away') [name=state]:contains('Running')",
            run: async () => {
                await call("llm.generation.job", "answer_now", [[await findJob("running")]]);
            },
        },
        says("The answer is ready."),
        { trigger: ".o_notification_buttons button:contains('Open')", run: "click" },
        { trigger: ".o_breadcrumb .active:contains('Far away')" },
        { trigger: ".o_llm_message:contains('Here it is.')" },
    ],
});

tours.add("llm_generation_thread_cancel_running_tour", {
    steps: () => [
        {
            content: "the list of threads shows that an answer is generated",
            trigger:
                ".o_data_row:contains('Long story') [name=last_job_state] [data-state=running] .fa-spin",
        },
        { trigger: ".o_data_row:contains('Long story') .o_data_cell[name=name]", run: "click" },
        { trigger: ".o_llm_job:contains('The provider is working on it.')" },
        { trigger: ".o_llm_stop:contains('Cancel')", run: "click" },
        { trigger: ".o_llm_job:contains('Cancelled')" },
        {
            content: "the history has it",
            trigger: "[name=generation_history] .o_data_row [name=state]:contains('Cancelled')",
        },
    ],
});

tours.add("llm_generation_settings_tour", {
    steps: () => [
        {
            trigger: ".o_setting_box [name=llm_generation_max_concurrent_jobs] input",
            run: "edit 7",
        },
        { trigger: ".o_setting_box [name=llm_generation_max_retries] input", run: "edit 0" },
        { trigger: ".o_setting_box [name=llm_generation_always_queue] input", run: "click" },
        { trigger: "#llm_generation_documentation a[target=_blank]" },
        { trigger: ".o_form_button_save:enabled", run: "click", expectUnloadPage: true },
        {
            content: "the saved settings are there after the page was loaded again",
            trigger: "[name=llm_generation_max_concurrent_jobs] input:value(7)",
        },
        { trigger: "[name=llm_generation_max_retries] input:value(0)" },
    ],
});

tours.add("llm_generation_queue_form_tour", {
    steps: () => [
        { trigger: ".o_field_widget[name=max_concurrent_jobs] input", run: "edit 3" },
        {
            trigger: ".o_field_widget[name=new_webhook_secret] input[type=password]",
            run: "edit whsec_c2VjcmV0",
        },
        { trigger: ".o_notebook .nav-link[name=model_limits]", run: "click" },
        { trigger: "[name=model_limit_ids] .o_field_x2many_list_row_add a", run: "click" },
        {
            trigger: "[name=model_limit_ids] .o_selected_row [name=model_id] input",
            run: "edit Native",
        },
        { trigger: ".o-autocomplete--dropdown-item:contains('Native model')", run: "click" },
        { trigger: ".o_form_button_save", run: "click" },
        saved,
        {
            content: "the secret is not shown again",
            trigger: ".o_form_view:contains('A secret is set.'):not(:has(input[type=password]))",
        },
        { trigger: ".o-mail-Message:contains('The webhook secret was changed.')" },
        {
            trigger:
                ".o-mail-Message:contains('Limit of the model Native model: 1 jobs at the same time')",
        },
        { trigger: ".o-mail-Message:contains('Jobs at the Same Time')" },
    ],
});
