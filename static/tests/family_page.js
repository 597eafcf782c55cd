import { defineMailModels as defineModelsOfMail } from "@mail/../tests/mail_test_helpers";
import { onRpc } from "@web/../tests/web_test_helpers";

/** Define the models of mail, and answer what the family's chat page asks for as it starts. */
export function defineMailModels() {
    defineModelsOfMail();
    for (const model of ["llm.assistant", "llm.model", "llm.provider", "llm.tool"]) {
        onRpc(model, "search_read", () => []);
    }
}
