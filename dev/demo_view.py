"""How the demo looks: 80 columns, lines that tell what happens, text that grows."""

import html
import re
import sys
import textwrap
import time

from lib.say import say

WIDTH = 80
_MARKS = {"queued": "·", "running": ">", "completed": "+", "failed": "!", "cancelled": "x"}


def plain(body):
    """Return the text of a message's HTML."""
    body = re.sub(r"</(?:p|li|h\d|div)>|<br */?>", " ", body or "")
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", body)).split())


def cut(text, width):
    """Return one line that fits, cut where it must be."""
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1].rstrip() + "…"


def title(text):
    say(f"\n{text}\n{'─' * len(text)}")


class Board:
    """Lines of what happened, each with the time and the figures of the queue then."""

    HEAD = "  time  wait  run  done"

    def __init__(self):
        self.started = time.monotonic()
        self.figures = (0, 0, 0)
        self._text = ""
        self._growing = None
        self._held = []

    def head(self):
        say(self.HEAD)

    def line(self, state, text):
        """Tell what happened; while a text grows, later."""
        waiting, running, done = self.figures
        seconds = time.monotonic() - self.started
        figures = f"{seconds:5.1f}s  {waiting:4} {running:4} {done:5}"
        line = cut_end(f"{figures}  {_MARKS.get(state, ' ')} ", text)
        if self._growing:
            self._held.append(line)
        else:
            say(line)

    def grow(self, number, text):
        """Show a text that is longer each time, as far as its words are whole."""
        if not self._growing:
            self._growing = GrowingText(f"{number:>5}:")
        self._text = text
        self._growing.show(text.rpartition(" ")[0])

    def end_text(self):
        """Show the rest of the text, and what happened meanwhile."""
        if self._growing:
            self._growing.show(self._text)
            self._growing.end()
            self._growing = None
        for line in self._held:
            say(line)
        self._held = []


class GrowingText:
    """Writes the words of a text as they come, in lines that fit."""

    def __init__(self, start):
        self.indent = " " * len(start)
        self.words = 0
        self.column = len(start)
        sys.stdout.write(start)

    def show(self, text):
        words = text.split()
        for word in words[self.words :]:
            if self.column + 1 + len(word) > WIDTH and self.column > len(self.indent):
                sys.stdout.write(f"\n{self.indent}")
                self.column = len(self.indent)
            sys.stdout.write(f" {word}")
            self.column += 1 + len(word)
        self.words = max(self.words, len(words))
        sys.stdout.flush()

    def end(self):
        say()


def cut_end(start, text):
    return start + cut(text, WIDTH - len(start))


def table(rows):
    """Show a table of dicts: number, state, wait, run, tokens, retries and answer."""
    say(f"{'#':>2}  {'state':9}  {'wait':>5}  {'run':>5}  {'tokens':>7}  {'retries':>7}  answer")
    for row in rows:
        start = (
            f"{row['number']:>2}  {row['state']:9}  {row['wait']:>5}  {row['run']:>5}"
            f"  {row['tokens']:>7}  {row['retries']:>7}  "
        )
        say(cut_end(start, row["answer"]))


def checks(results):
    """Show sentences with whether they are true; return whether all of them are."""
    say()
    for sentence, is_true in results.items():
        say(f"[{'ok' if is_true else 'NO'}] {sentence}")
    return all(results.values())


def say_refused(what, reason):
    say(what)
    for line in reason.splitlines():
        say(textwrap.fill(line, WIDTH, initial_indent="    ", subsequent_indent="    "))


def seconds(value):
    return f"{value:.1f}s" if value else "-"
