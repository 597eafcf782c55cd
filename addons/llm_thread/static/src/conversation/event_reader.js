/* global TextDecoder */

/**
 * Yield the events of a text/event-stream answer.
 *
 * @param {Response} response
 */
async function* readEvents(response) {
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    let rest = "";
    for (;;) {
        const { done, value } = await reader.read();
        if (done) {
            return;
        }
        const parts = (rest + decoder.decode(value, { stream: true })).split("\n\n");
        rest = parts.pop();
        for (const part of parts) {
            if (part.startsWith("data: ")) {
                yield JSON.parse(part.slice(6));
            }
        }
    }
}

// Odoo's transpiler does not know `export async function*`.
export { readEvents };
