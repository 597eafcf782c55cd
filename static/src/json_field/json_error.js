import { _t } from "@web/core/l10n/translation";

import { TOKEN } from "./json_token";

const OPENING = { "{": "nameOrEnd", "[": "valueOrEnd" };
const CLOSING = { "}": "{", "]": "[" };

const EXPECTED = () => ({
    value: _t("a value (a text in double quotes, a number, true, false, null, { or [)"),
    valueOrEnd: _t("a value, or ]"),
    name: _t("a name in double quotes"),
    nameOrEnd: _t("a name in double quotes, or }"),
    colon: _t("a colon"),
    "{": _t("a comma, or }"),
    "[": _t("a comma, or ]"),
    end: _t("nothing more"),
});

/** What may come after a token where `expected` was due; nothing where it may not come. */
function next(expected, { mark, text, value }, open) {
    const isValueDue = ["value", "valueOrEnd"].includes(expected);
    const isNameDue = ["name", "nameOrEnd"].includes(expected);
    if (isNameDue && text) {
        return "colon";
    }
    if (isValueDue && (text || value)) {
        return open.at(-1) || "end";
    }
    if (isValueDue && OPENING[mark]) {
        open.push(mark);
        return OPENING[mark];
    }
    if (expected === "colon" && mark === ":") {
        return "value";
    }
    if (["{", "["].includes(expected) && mark === ",") {
        return expected === "{" ? "name" : "value";
    }
    const canClose = [open.at(-1), OPENING[open.at(-1)]].includes(expected);
    if (CLOSING[mark] && CLOSING[mark] === open.at(-1) && canClose) {
        open.pop();
        return open.at(-1) || "end";
    }
}

/**
 * Find where a text stops being JSON. Browsers word it differently, and some do not tell where.
 *
 * @param {string} text
 * @returns {{row: number, column: number, message: string}|null} counted from 0
 */
export function findJsonError(text) {
    const open = [];
    let expected = "value";
    let position = 0;
    for (;;) {
        TOKEN.lastIndex = position;
        const token = TOKEN.exec(text);
        const following = token && next(expected, token.groups, open);
        if (!following) {
            break;
        }
        expected = following;
        position = TOKEN.lastIndex;
    }
    const rest = text.slice(position);
    if (expected === "end" && /^[ \t\n\r]*$/.test(rest)) {
        return null;
    }
    const end = rest.trim() ? text.length - rest.trimStart().length : text.trimEnd().length;
    const lines = text.slice(0, end).split("\n");
    return {
        row: lines.length - 1,
        column: lines.at(-1).length,
        message: _t("Line %(line)s: %(expected)s is expected here.", {
            line: lines.length,
            expected: EXPECTED()[expected],
        }),
    };
}
