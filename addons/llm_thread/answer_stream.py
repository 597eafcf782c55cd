"""The state of one streamed answer; knows nothing of the database."""

import logging
import time

_logger = logging.getLogger(__name__)

#: seconds between two writes of a growing answer, and characters of one that is written as often:
#: a longer one takes longer to be made HTML
WRITE_INTERVAL, SHORT = 0.2, 10_000


class AnswerStream:
    """Gathers the chunks of `chat(stream=True)`; iterating it tells when to write.

    It never raises what the provider raises: it ends, and has it in `error`, so that the reader
    can keep what came first.
    """

    def __init__(self, chunks):
        self.chunks = iter(chunks)
        self.close = getattr(chunks, "close", lambda: None)
        self._pieces = []
        self.tool_calls = []
        self.usage = None
        self.error = None
        self.error_text = ""

    def __iter__(self):
        """Yield after the first chunk with something to show, then at most every interval."""
        due = 0.0
        while (chunk := self._next()) is not None:
            if not self._take(chunk):
                continue
            now = time.monotonic()
            if now >= due:
                yield
                due = now + WRITE_INTERVAL * max(1, len(self.text) / SHORT)

    def _next(self):
        try:
            return next(self.chunks, None)
        except Exception as error:  # noqa: BLE001 - raised by the reader, once the text is saved
            self.error = error
            return None

    def _take(self, chunk):
        """Add a chunk, and tell whether it can be seen."""
        if chunk.get("error"):
            self.error_text = str(chunk["error"])
            self.chunks = iter(())
        self.usage = chunk.get("usage") or self.usage
        self._pieces.append(chunk.get("content") or "")
        self.tool_calls += chunk.get("tool_calls") or []
        return bool(chunk.get("content") or chunk.get("tool_calls"))

    @property
    def text(self):
        """What came so far; put together when it is asked for, as each time is slow."""
        self._pieces = ["".join(self._pieces)]
        return self._pieces[0]

    @property
    def failed(self):
        return bool(self.error or self.error_text)

    @property
    def is_empty(self):
        return not (self.text.strip() or self.tool_calls)
