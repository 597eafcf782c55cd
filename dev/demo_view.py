"""How the demo looks: 80 columns, lines that tell what happens, text that grows."""

import html
import re
import sys
import time

from lib.say import say

WIDTH = 80
_MARKS = {"queued": "·", "running": ">", "completed": "+", "failed": "!", "cancelled": "x"}


def plain(body):
    """Return the text of a message's HTML."""
    body = re.sub(r"</(?:p|li|h\d|div)>|<br */?>", " ", body or "")
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", body)).split())


def cut(start, text):
    """Return one line that fits, its end cut off where it must be."""
    text, width = " ".join(text.split()), WIDTH - len(start)
    return start + (text if len(text) <= width else text[: width - 1].rstrip() + "…")


def title(text):
    say(f"\n{text}\n{'─' * len(text)}")


class Board:
    """Lines of what happened, each with the time and the figures of the queue then.

    Between them a text may grow, word by word; what happens meanwhile is told after it.
    """

    HEAD = "  time  wait  run  done"

    def __init__(self):
        self.started = time.monotonic()
        self.figures = (0, 0, 0)
        self._text = ""
        self._held = []

    def line(self, state, text):
        waiting, running, done = self.figures
        figures = f"{time.monotonic() - self.started:5.1f}s  {waiting:4} {running:4} {done:5}"
        line = cut(f"{figures}  {_MARKS.get(state, ' ')} ", text)
        self._held.append(line) if self._text else say(line)

    def grow(self, number, text):
        """Show a text that is longer each time."""
        if text and not self._text:
            sys.stdout.write(f"{number:>5}: ")
        sys.stdout.write(text[len(self._text) :])
        sys.stdout.flush()
        self._text = text

    def end_text(self):
        """Show what happened meanwhile."""
        for line in ["", *self._held] if self._text else []:
            say(line)
        self._text, self._held = "", []


def table(rows):
    """Show rows of (number, state, wait, run, tokens, retries, answer) under their heads."""
    for row in (("#", "state", "wait", "run", "tokens", "retries", "answer"), *rows):
        number, state, wait, run, tokens, retries, answer = map(str, row)
        start = f"{number:>2}  {state:9}  {wait:>5}  {run:>5}  {tokens:>7}  {retries:>7}  "
        say(cut(start, answer))


def checks(results):
    """Show sentences with whether they are true; return whether all of them are."""
    say()
    for sentence, is_true in results.items():
        say(f"[{'ok' if is_true else 'NO'}] {sentence}")
    return all(results.values())
