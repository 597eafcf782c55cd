import { rpc } from "@web/core/network/rpc";
import { registry } from "@web/core/registry";

const call = (model, method, args) =>
    rpc(`/web/dataset/call_kw/${model}/${method}`, { model, method, args, kwargs: {} });

registry.category("web_tour.tours").add("llm_generation_batch_tour", {
    steps: () => [
        {
            content: "the list tells how far each batch is",
            trigger: ".o_data_row:contains('Letters') [name=progress]:contains('0')",
        },
        { trigger: ".o_data_row:contains('Letters') .o_data_cell[name=name]", run: "click" },
        {
            content: "one of two jobs is given up elsewhere",
            trigger: ".o_form_view [name=queued_count]:contains('2')",
            run: async () => {
                const queued = [["state", "=", "queued"]];
                const [id] = await call("llm.generation.job", "search", [queued]);
                await call("llm.generation.job", "action_cancel", [[id]]);
            },
        },
        {
            content: "the form follows",
            trigger:
                ".o_form_view:has([name=cancelled_count]:contains('1')) [name=queued_count]:contains('1')",
        },
        { trigger: ".o_statusbar_buttons button[name=action_bulk_cancel]", run: "click" },
        { trigger: ".modal-title:contains('Cancel the Job?')" },
        { trigger: ".modal button:contains('Cancel the Job')", run: "click" },
        { trigger: ".o_form_view [name=cancelled_count]:contains('2')" },
        { trigger: ".o_statusbar_status [data-value=done].o_arrow_button_current" },
    ],
});
