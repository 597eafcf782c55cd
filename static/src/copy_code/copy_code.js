import { Message } from "@mail/core/common/message";
import { browser } from "@web/core/browser/browser";
import { patch } from "@web/core/utils/patch";
import { renderToElement } from "@web/core/utils/render";

/**
 * Put a button on each piece of code that copies it as it was written.
 *
 * @param {HTMLElement} [root]
 */
export function addCopyButtons(root) {
    for (const pre of root?.querySelectorAll("pre") || []) {
        if (!pre.querySelector(".o_llm_copy")) {
            const code = pre.querySelector("code") || pre;
            const text = code.textContent;
            const button = renderToElement("llm_generate_job.CopyCode");
            button.addEventListener("click", () => copy(text, button));
            pre.prepend(button);
        }
    }
}

async function copy(text, button) {
    try {
        await browser.navigator.clipboard.writeText(text);
    } catch (error) {
        browser.console.warn(error); // as Odoo's own button: without encryption there is none
        return;
    }
    const icon = button.querySelector("i");
    icon.classList.replace("fa-clipboard", "fa-check");
    browser.setTimeout(() => icon.classList.replace("fa-check", "fa-clipboard"), 1500);
}

patch(Message.prototype, {
    prepareMessageBody(bodyEl) {
        super.prepareMessageBody(bodyEl);
        if (this.message.thread?.model === "llm.thread") {
            addCopyButtons(bodyEl);
        }
    },
});
