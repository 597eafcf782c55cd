"""Asks the provider of `answer_fake.py` without Odoo, by the HTTP client of `llm_openai`."""

import json
import sys
import time
import types
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "addons" / "llm_openai"
PROMPT = "Describe the product in two sentences for the web shop: " + "a chair of oak, oiled. " * 6


def _client_class():
    # The package itself would want Odoo; its client does not.
    package = types.ModuleType("llm_openai")
    package.__path__ = [str(FOLDER)]
    sys.modules["llm_openai"] = package
    from llm_openai.client import OpenAIClient  # noqa: PLC0415 - there now

    return OpenAIClient


CLIENT = _client_class()


class EmptyAnswerError(Exception):
    """A provider answered nothing: figures of it would mean nothing, either."""


def ask(address, number):
    """Return the text of an answer.

    :raise EmptyAnswerError: for one that has none
    """
    payload = {
        "model": "answers",
        "messages": [{"role": "user", "content": f"{PROMPT}{number}"}],
        "stream": True,
    }
    events = CLIENT(address, "none").stream("chat/completions", payload)
    deltas = [choice["delta"] for event in events for choice in event["choices"]]
    if not (text := "".join(delta.get("content") or "" for delta in deltas)):
        raise EmptyAnswerError
    return text


class Clock:
    """Tells the milliseconds of processor time for one answer, and the answers a second."""

    def __init__(self):
        self._processor, self._began = time.process_time(), time.perf_counter()

    def tell(self, count):
        """Print the figures as JSON."""
        seconds = time.perf_counter() - self._began
        processor = 1000 * (time.process_time() - self._processor) / count
        figures = {"processor": processor, "seconds": seconds, "rate": count / seconds}
        sys.stdout.write(json.dumps(figures))
