"""What is wrong with the texts of addons and their translations, told by their files alone.

`make lint` runs this file on each addon of the repository, the tests ask it about what is there.
"""

import re
import sys
from pathlib import Path

import polib

LANGUAGES = ("de", "fr")
PLACEHOLDER = re.compile(r"%(?:\(\w+\))?[sd%]|<[^>]+>|\{\{.+?\}\}")
#: Names of the code that are extracted beside texts, and examples of them: `res.partner`.
TECHNICAL = re.compile(r"[a-z]+(?:[._][a-z]+)+")
#: Words that English has in common with a language, for texts that are the same in both.
SHARED = {
    "de": "Budgets Chat ID In LLM Logo Multimodal Name Prompt Schema System Webhooks",
    "fr": "Action Assistant Budgets Chat Configuration Conversation Description Documentation"
    " ID LLM Logo Message Messages Multimodal Options Position Question Quota Service Type Webhooks"
    " minutes min",
}
#: Words that neither German nor French has: a text with one was left half as it was.
ENGLISH = re.compile(r"\b(?:and|from|not|of|the|this|which|with|your)\b")
#: Words that are said otherwise: what reads like code, or like something else, and what it is.
RETIRED = (
    (re.compile(r"\b(?:dis|en)abled?\b", re.IGNORECASE), "pause, resume"),
    (re.compile(r"\bProcess Now\b"), "Try Again Now"),
    (
        re.compile(r"\bConcurrent Jobs\b|\b(?:jobs|run) at once\b", re.IGNORECASE),
        "at the same time",
    ),
    (re.compile(r"\bCompleted At\b"), "Ended At"),
    (re.compile(r"\bHeartbeat\b|\bSign of Life\b"), "Last Seen"),
    (re.compile(r"\bEconomy\b"), "Run When Idle"),
    (re.compile(r"\bOutcome unknown\b"), "Connection lost; result unknown"),
    (re.compile(r"\b0: "), "0 means"),
    (re.compile(r"\bHTTP (?:\d|%)"), "what the status means"),
)


def complaints(folder, addon):
    """Return what is missing or wrong in an addon's texts and translations, a line each.

    :param Path folder: its `i18n`
    """
    found = [
        f"{folder / name} is not there: run make translate."
        for name in (f"{addon}.pot", *(f"{language}.po" for language in LANGUAGES))
        if not (folder / name).is_file()
    ]
    if found:
        return found
    texts = {entry.msgid for entry in polib.pofile(str(folder / f"{addon}.pot"))}
    found = [
        f"{folder}: {text!r} should say: {instead}"
        for text in texts
        for pattern, instead in RETIRED
        if pattern.search(text)
    ]
    for language in LANGUAGES:
        entries = polib.pofile(str(folder / f"{language}.po"))
        told = {entry.msgid: _fault(entry, language, texts) for entry in entries}
        told |= dict.fromkeys(texts - told.keys(), "is missing")
        path = folder / f"{language}.po"
        found += [f"{path}: {text!r} {fault}" for text, fault in told.items() if fault]
    return found


def _fault(entry, language, texts):
    """Return what is wrong with a translation, '' for nothing."""
    if entry.obsolete or entry.msgid not in texts:
        return "is in no source any more"
    if entry.fuzzy:
        return "is fuzzy"
    if not entry.msgstr:
        return "has no translation"
    if sorted(PLACEHOLDER.findall(entry.msgstr)) != sorted(PLACEHOLDER.findall(entry.msgid)):
        return "has other placeholders than its translation"
    words = PLACEHOLDER.sub(" ", entry.msgstr)
    is_same = entry.msgstr == entry.msgid and not TECHNICAL.fullmatch(entry.msgid)
    unshared = {*re.findall(r"[^\W\d_]{2,}", words)}.difference(SHARED[language].split())
    if (is_same and unshared) or ENGLISH.search(words):
        return "is still English"
    return ""


if __name__ == "__main__":
    pairs = zip(sys.argv[1::2], map(Path, sys.argv[2::2]), strict=True)
    wrong = [line for addon, folder in pairs for line in complaints(folder / "i18n", addon)]
    sys.exit("\n".join(wrong) or 0)
