import { registry } from "@web/core/registry";

const tours = registry.category("web_tour.tours");

const pivotCell = (text) => `.o_pivot tbody tr:contains('Native') td:contains('${text}')`;

tours.add("llm_generation_analysis_tour", {
    steps: () => [
        {
            trigger: ".o_menu_sections [data-menu-xmlid='llm_generate_job.llm_generation_menu']",
            run: "click",
        },
        { trigger: ".o-dropdown--menu .o-dropdown-item:contains('Analysis')", run: "click" },
        { trigger: ".o_searchview_facet:contains('Last 24 Hours')" },
        { trigger: ".o_graph_canvas_container canvas" },
        { trigger: ".o_cp_switch_buttons .o_switch_view.o_pivot", run: "click" },
        { content: "rates are per cent", trigger: pivotCell("50.00%") },
        { content: "times are written for people", trigger: pivotCell("1 min 15 s") },
        { content: "tokens are added up", trigger: pivotCell("42") },
        { trigger: ".o_searchview_dropdown_toggler", run: "click" },
        { trigger: ".o_favorite_menu .o_expand_shared_favorites", run: "click" },
        {
            content: "a saved view",
            trigger: ".o_favorite_menu .o_menu_item:contains('What fails')",
            run: "click",
        },
        { trigger: ".o_pivot tbody tr:contains('Took too long')" },
        { trigger: ".o_cp_switch_buttons .o_switch_view.o_list", run: "click" },
        { trigger: ".o_group_header:contains('Took too long')", run: "click" },
        { trigger: ".o_group_header:contains('Native')", run: "click" },
        { trigger: ".o_data_row .o_data_cell[name=state]", run: "click" },
        {
            content: "a row opens its job",
            trigger: ".o_statusbar_status .o_arrow_button_current:contains('Failed')",
        },
    ],
});

tours.add("llm_generation_analysis_user_tour", {
    steps: () => [
        { trigger: ".o_graph_canvas_container canvas" },
        { trigger: ".o_cp_switch_buttons .o_switch_view.o_list", run: "click" },
        {
            content: "a user sees what is theirs",
            trigger: ".o_list_view:not(:has(.o_data_row:contains('Direct')))",
        },
        { trigger: ".o_data_row:contains('Native')" },
    ],
});
