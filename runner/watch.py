"""What a provider was asked for one answer, what that used, and what it raised."""

import contextlib

from ..const import UNKNOWN_OUTCOMES
from .http_errors import classify
from .tokens import Usage


class Watch:
    """Goes with the context of what is asked, as `generation_watch`: by a job, or directly.

    It tells an error of the provider from one of the code around it, and counts what the
    provider used over all calls for the answer.
    """

    def __init__(self):
        self.has_asked = False
        self.error = None
        #: The most tokens of an answer, and the name of the argument that tells the service.
        self.limit = None
        #: How many tokens the database knows of.
        self.noted = 0
        self._calls = []
        self._has_refused = False

    def ask(self, method, *args, **kwargs):
        """Call a method of a provider; note that it was called, what it says and raises."""
        self.has_asked = True
        call = Usage(args, kwargs.get("prepend_messages"), kwargs.get("tools"))
        self._calls.append(call)
        try:
            answer = method(*args, **kwargs)
        except Exception as error:
            self.error = error
            raise
        if hasattr(answer, "__next__"):
            return self._chunks(answer, call)
        call.is_whole = True
        self._hear(call, answer[0] if isinstance(answer, tuple) and answer else answer)
        return answer

    def _chunks(self, chunks, call):
        with contextlib.closing(chunks) if hasattr(chunks, "close") else contextlib.nullcontext():
            try:
                for chunk in chunks:
                    self._hear(call, chunk)
                    yield chunk
            except Exception as error:
                self.error = error
                raise
        call.is_whole = True

    def _hear(self, call, said):
        call.hear(said)
        self._has_refused = self._has_refused or (
            isinstance(said, dict) and bool(said.get("error"))
        )

    @property
    def usage(self):
        """The tokens that were used so far, empty where nothing is known."""
        known = [call for call in self._calls if call.is_known]
        return {
            f"{kind}_tokens": sum(call.tokens(kind) for call in known)
            for kind in ("prompt", "completion")
            if known
        }

    @property
    def cost(self):
        """The tokens that the answer cost: None if nothing was asked, empty if nobody can know."""
        if not self.has_asked:
            return None
        known = classify(self.error) if self.error else None
        is_free = self._has_refused or (known and known.error_type not in UNKNOWN_OUTCOMES)
        nothing = {"prompt_tokens": 0, "completion_tokens": 0} if is_free else {}
        return self.usage or nothing
