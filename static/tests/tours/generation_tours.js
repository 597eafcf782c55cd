/* global ace */
import { registry } from "@web/core/registry";

const tours = registry.category("web_tour.tours");

const currentState = (label) => ({
    content: `the job is ${label}`,
    trigger: `.o_statusbar_status .o_arrow_button_current:contains('${label}')`,
});

const say = (text) => [
    { trigger: ".o_llm_input textarea:enabled", run: `edit ${text}` },
    { trigger: ".o_llm_input textarea", run: "press Enter" },
];

const answer = (text) => ({
    content: `the answer ${text}`,
    trigger: `.o_llm_message[data-role=assistant]:last .o_llm_bubble:contains('${text}')`,
});

/** Put a text into the JSON editor, as pasting it does. */
const write = (text) => ({
    content: `write ${text}`,
    trigger: ".o_llm_json_editor .ace_content",
    run: () => {
        const editor = ace.edit(document.querySelector(".o_llm_json_editor"));
        editor.setValue(text);
        editor.blur();
    },
});

tours.add("llm_generation_job_cancel_tour", {
    steps: () => [
        {
            trigger: ".o_menu_sections [data-menu-xmlid='llm_generate_job.llm_generation_menu']",
            run: "click",
        },
        {
            content: "a user finds nothing to manage",
            trigger:
                ".o-dropdown--menu:contains('Jobs'):not(:contains('Queues')):not(:contains('Dashboard'))",
        },
        { trigger: ".o-dropdown--menu .o-dropdown-item:contains('Jobs')", run: "click" },
        { trigger: ".o_data_row:contains('Asked by me') .o_data_cell[name=name]", run: "click" },
        currentState("Queued"),
        { trigger: ".o_form_view [name=queue_position]:contains('1')" },
        { trigger: ".o_statusbar_buttons button[name=action_cancel]", run: "click" },
        currentState("Cancelled"),
        { trigger: ".o_form_statusbar:not(:has(button[name=action_cancel]))" },
    ],
});

tours.add("llm_generation_phone_jobs_tour", {
    steps: () => [
        {
            content: "what runs and what failed is there before anything else",
            trigger: ".o_kanban_group:first .o_kanban_header:contains('Running')",
        },
        { trigger: ".o_kanban_group:nth-of-type(2) .o_kanban_header:contains('Failed')" },
        {
            trigger:
                ".o_kanban_group:nth-of-type(2) .o_kanban_record:contains('Temporary failure')",
        },
    ],
});

tours.add("llm_generation_queue_manager_tour", {
    steps: () => [
        { trigger: ".o_kanban_record:contains('Native') [data-button=retry]", run: "click" },
        {
            content: "what cannot be done is there, and says why",
            trigger: ".o_notification_content:contains('No failed job can be retried.')",
        },
        { trigger: ".o_kanban_record:contains('Native') [data-button=pause]", run: "click" },
        { trigger: ".o_kanban_record:contains('Native') [name=queue_health]:contains('Paused')" },
        { trigger: ".o_kanban_record:contains('Native') [data-button=resume]", run: "click" },
        { trigger: ".o_kanban_record:contains('Native') [name=queue_health]:contains('Healthy')" },
        {
            trigger: ".o_kanban_record:contains('Native') .o_llm_queue_waiting:contains('1')",
        },
        {
            trigger: ".o_kanban_record:contains('Native') [data-button=clear]",
            run: "click",
        },
        { trigger: ".modal button:contains('Cancel the Job')", run: "click" },
        {
            content: "nothing waits, so nothing can be cleared",
            trigger:
                ".o_kanban_record:contains('Native'):has([data-button=clear][aria-disabled=true])" +
                " .o_llm_queue_waiting:contains('0')",
        },
        { trigger: ".o_kanban_record:contains('Native') .fs-4", run: "click" },
        {
            content: "so it is in the form",
            trigger: ".o_form_statusbar [data-button=clear][aria-disabled=true]",
        },
        { trigger: ".o_form_statusbar [data-button=pause]", run: "click" },
        { trigger: ".o_form_view [name=queue_health]:contains('Paused')" },
        { trigger: ".o_form_statusbar [data-button=resume]", run: "click" },
        { trigger: ".o_form_view [name=queue_health]:contains('Healthy')" },
    ],
});

tours.add("llm_generation_manager_views_tour", {
    steps: () => [
        { content: "each view opens", trigger: ".o_graph_canvas_container canvas" },
        { trigger: ".o_cp_switch_buttons .o_switch_view.o_pivot", run: "click" },
        { trigger: ".o_pivot th:contains('Native')" },
        { trigger: ".o_cp_switch_buttons .o_switch_view.o_list", run: "click" },
        {
            content: "seconds are written for people",
            trigger: ".o_data_row td[name=duration]:contains('1 min 15 s')",
        },
        {
            trigger:
                ".o_data_row:has(td[name=duration]:contains('1 min 15 s')) .o_data_cell[name=state]",
            run: "click",
        },
        currentState("Failed"),
        { trigger: ".o_form_view .alert-danger:contains('It broke.')" },
        {
            trigger: ".o_menu_sections [data-menu-xmlid='llm_generate_job.llm_generation_menu']",
            run: "click",
        },
        { trigger: ".o-dropdown--menu .o-dropdown-item:contains('Queues')", run: "click" },
        { trigger: ".o_data_row:contains('Native') [name=success_rate]:contains('0 %')" },
        {
            trigger: ".o_menu_sections [data-menu-xmlid='llm_generate_job.llm_generation_menu']",
            run: "click",
        },
        { trigger: ".o-dropdown--menu .o-dropdown-item:contains('Servers')", run: "click" },
        { trigger: ".o_view_nocontent:contains('No process runs jobs now')" },
    ],
});

tours.add("llm_generation_json_tour", {
    steps: () => [
        { trigger: ".o_llm_json_editor .ace_content:contains('Hello')" },
        write('{"prompt": "Goodbye"'),
        { trigger: ".o_llm_json_error:contains('Line 1: a comma, or } is expected here')" },
        { content: "its line is marked", trigger: ".ace_gutter-cell.ace_error:contains('1')" },
        { trigger: ".o_form_button_save", run: "click" },
        {
            content: "it is refused, and kept to be mended",
            trigger: ".o_field_invalid .o_llm_json_editor .ace_content:contains('Goodbye')",
        },
        { trigger: ".o_form_button_cancel", run: "click" },
        {
            content: "discarding it brings the saved value back",
            trigger:
                ".o_field_llm_json:not(:has(.o_llm_json_error)) .ace_content:contains('Hello')",
        },
        write('{"prompt": "Good day", "n": [1, 2]}'),
        { trigger: ".o_form_button_save", run: "click" },
        { trigger: ".o_form_saved, .o_form_status_indicator_buttons.invisible" },
        { trigger: ".o_statusbar_buttons button[name=action_queue]", run: "click" },
        currentState("Queued"),
        {
            content: "what is queued can be read, and not edited",
            trigger: ".o_field_llm_json.o_readonly_modifier .ace_content:contains('Good day')",
        },
    ],
});

tours.add("llm_generation_conversation_tour", {
    steps: () => [
        ...say("How are you?"),
        answer("Hello"),
        { trigger: ".o_llm_input textarea:enabled" },
        {
            content: "the form counts it",
            trigger: ".oe_stat_button:contains('Generations'):contains('1')",
        },
    ],
});

tours.add("llm_generation_conversation_cancel_tour", {
    steps: () => [
        ...say("How are you?"),
        { trigger: ".o_llm_job:contains('Paused by an administrator')" },
        {
            content: "where the conversation is not shown, a line says it",
            trigger: ".o_notebook .nav-link[name=settings]",
            run: "click",
        },
        { trigger: ".o_llm_generation_status:visible:contains('Paused by')" },
        { trigger: ".o_notebook .nav-link[name=conversation]", run: "click" },
        {
            content: "the job is followed again",
            trigger: ".o_llm_job:contains('Paused by an administrator')",
        },
        { trigger: ".o_llm_stop:contains('Cancel')", run: "click" },
        { trigger: ".o_llm_job:contains('Cancelled')" },
        { trigger: ".o_llm_input textarea:enabled" },
    ],
});

tours.add("llm_generation_conversation_error_tour", {
    steps: () => [
        ...say("How are you?"),
        { content: "the reason", trigger: ".o_llm_failure:contains('At least one message')" },
        { trigger: ".o_llm_retry", run: "click" },
        answer("Hello"),
        { trigger: "body:not(:has(.o_llm_failure))" },
    ],
});

tours.add("llm_generation_conversation_ended_tour", {
    steps: () => [
        { trigger: ".o_data_row:contains('First') .o_data_cell[name=name]", run: "click" },
        { content: "what was cancelled says so", trigger: ".o_llm_job:contains('Cancelled.')" },
        { trigger: ".o_pager_next", run: "click" },
        { content: "what failed, too", trigger: ".o_llm_failure:contains('No such pictures')" },
        {
            content: "and what to do instead of another try",
            trigger: ".o_llm_job:contains('Ask it in other words, or ask for less')",
        },
        { trigger: "body:not(:has(.o_llm_retry))" },
    ],
});

tours.add("llm_generation_conversation_retrying_tour", {
    steps: () => [
        { trigger: ".o_data_row:contains('First') .o_data_cell[name=name]", run: "click" },
        {
            content: "it says when it is tried again, and what one can do until then",
            trigger: ".o_llm_job:contains('Will be retried automatically at')",
        },
        { trigger: ".o_llm_stop:contains('Cancel')" },
        { trigger: ".o_llm_try_now:contains('Try Again Now')", run: "click" },
        answer("Hello"),
        { trigger: "body:not(:has(.o_llm_job, .o_llm_failure))" },
        { trigger: ".o_pager_next", run: "click" },
        { trigger: ".o_llm_job:contains('Will be retried automatically at')" },
        { trigger: ".o_llm_stop:contains('Cancel')", run: "click" },
        {
            content: "given up, it has failed for good, and more can be asked",
            trigger: ".o_llm_failure:contains('Not now')",
        },
        { trigger: ".o_llm_input textarea:enabled" },
        { trigger: "body:not(:has(.o_llm_stop, .o_llm_try_now))" },
    ],
});

tours.add("llm_generation_thread_retry_tour", {
    steps: () => [
        { trigger: ".o_llm_failure:contains('It broke.')" },
        { trigger: ".o_llm_failure .o_llm_retry", run: "click" },
        answer("Hello"),
        { trigger: "body:not(:has(.o_llm_failure))" },
    ],
});

tours.add("llm_generation_conversation_leave_tour", {
    steps: () => [
        { trigger: ".o_data_row:contains('First') .o_data_cell[name=name]", run: "click" },
        ...say("How are you?"),
        { trigger: ".o_llm_job:contains('Paused by an administrator')" },
        { trigger: ".o_pager_next", run: "click" },
        {
            content: "the conversation of the other thread",
            trigger: ".o_form_view:has(.o_breadcrumb .active:contains('Second')) .o_llm_empty",
        },
        { trigger: ".o_llm_messages:not(:has(.o_llm_job))" },
        ...say("And you?"),
        { trigger: ".o_llm_job:contains('Paused by an administrator')" },
        { trigger: ".o_pager_previous", run: "click" },
        { trigger: ".o_llm_message:contains('How are you?')" },
        { trigger: ".o_llm_job:contains('Paused by an administrator')" },
    ],
});
