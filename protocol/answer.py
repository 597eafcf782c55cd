"""What a provider answered about a job, as a value that can be relied on."""

import json
import math
from dataclasses import dataclass, field, replace

from .. import exceptions
from ..const import ERROR_TYPES, FINAL_STATES, FINISH_REASONS
from .backoff import DISK_FULL_DELAY
from .http_errors import _lt
from .sanitize import (
    DATA_LIMIT,
    redact,
    redact_key,
    sanitize_body,
    sanitize_json,
    sanitize_text,
    text_of,
)

PROVIDER_STATES = ("queued", "running", "completed", "failed", "cancelled")
#: What of an answer a provider's code may write on the job, besides its state.
WRITTEN = ("output_message_id", "external_job_id", "error_message", "provider_data", "progress")
#: Seconds; a provider may ask for any wait, but a date has to come of it.
LONGEST_WAIT = 366 * 86400
#: How services say that an answer ended, besides the words of `FINISH_REASONS`: Anthropic, Google,
#: Mistral, Ollama, Replicate, and OpenAI's Responses.
FINISH_WORDS = {
    **dict.fromkeys(("end_turn", "eos", "eos_token", "stop_sequence"), "stop"),
    **dict.fromkeys(("max_tokens", "max_output_tokens", "model_length"), "length"),
    **dict.fromkeys(("model_context_window_exceeded",), "length"),
    **dict.fromkeys(("blocklist", "prohibited_content", "recitation", "safety"), "content_filter"),
    **dict.fromkeys(("function_call", "tool_call", "tool_use"), "tool_calls"),
    "error": "broken",
}
#: What it means that an answer ended so before its first word. None of it comes with another try.
NO_WORD = {
    "length": (
        exceptions.BadRequestError,
        _lt(
            "The answer reached its limit before its first word. Allow more tokens, or ask for"
            " less."
        ),
    ),
    "content_filter": (
        exceptions.ContentRefusedError,
        _lt(
            "A filter of the provider stopped the answer before its first word. Ask in other words."
        ),
    ),
    "refusal": (
        exceptions.ContentRefusedError,
        _lt("The model refuses to answer. Ask in other words."),
    ),
}
NO_ID = _lt("The provider gave the job an id that is none.")
#: Characters of a provider's id of a job.
LONGEST_ID = 1000


@dataclass(frozen=True)
class Claim:
    """A job that this process may run, and the attempt that entitles it to."""

    job_id: int
    token: int
    #: Whether the job's owner was not archived at the claim; None where nobody looked.
    owner_is_active: bool | None = field(default=None, compare=False)
    #: Seconds that the job may take, None where nothing says so; and whose call it is.
    timeout: int | None = field(default=None, compare=False)
    provider_id: int | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Answer:
    """State of a job at its provider. `state` is one of `PROVIDER_STATES`."""

    state: str
    output_message_id: int | None = None
    #: What was answered, where no message has it.
    output: str | None = None
    external_job_id: str | None = None
    error_type: str | None = None
    error_message: str | None = None
    retry_after: float | None = None
    #: Whose fault an error is, one of `exceptions.SCOPES`; None for that of its type.
    scope: str | None = None
    #: Whether it is sure that the provider did nothing.
    unbilled: bool = False
    provider_data: dict | None = None
    progress: float | None = None
    poll_after: float | None = None
    expires_in: float | None = None
    #: Seconds for which no other call is to be made: by the headers of the provider's answer, or
    #: as there is no room for one here.
    pause: float | None = None
    usage: dict = field(default_factory=dict)
    #: How it ended, a key of `FINISH_REASONS`; None where nobody tells.
    finish_reason: str | None = None

    @classmethod
    def from_dict(cls, values):
        """Read the dict of `check_generation_job_status()`.

        :raise ProviderFailedError: when it is no dict with a known state
        """
        if not isinstance(values, dict) or values.get("state") not in PROVIDER_STATES:
            state = values.get("state") if isinstance(values, dict) else type(values).__name__
            raise exceptions.ProviderFailedError(
                f"The provider answered with an unknown state: {text_of(state)[:80]}"
            )
        message = values.get("output_message_id")
        message_id = getattr(message, "id", message)
        is_id = type(message_id) is int and 0 < message_id < 2**31
        error = values.get("error_message") or values.get("error")
        error_type = values.get("error_type")
        scope = values.get("scope")
        is_known = any(error_type == code for code, _label in ERROR_TYPES)
        if not is_known:
            error_type = "provider_failed" if values["state"] == "failed" else None
        return cls(
            state=values["state"],
            output_message_id=message_id if is_id else None,
            output=sanitize_body(text_of(values.get("output") or ""), None) or None,
            external_job_id=job_id_of(values.get("external_job_id")),
            error_type=error_type,
            error_message=redact(error) if error else None,
            retry_after=_number(values.get("retry_after"), 0, LONGEST_WAIT),
            scope=next((one for one in exceptions.SCOPES if one == scope), None),
            provider_data=_storable(values.get("provider_data")),
            progress=_number(values.get("progress"), 0, 100),
            poll_after=_number(values.get("poll_after"), 0, 3600),
            expires_in=_number(values.get("expires_in"), 0, LONGEST_WAIT),
            usage=values.get("usage") if isinstance(values.get("usage"), dict) else {},
            finish_reason=finish_reason_of(values.get("finish_reason")),
        )

    @classmethod
    def from_error(cls, error):
        """Say that an attempt failed with a `GenerationError`."""
        return cls(
            state="cancelled" if error.error_type == "cancelled" else "failed",
            error_type=error.error_type,
            error_message=redact(error),
            retry_after=_number(error.retry_after, 0, LONGEST_WAIT),
            scope=error.scope,
            unbilled=error.unbilled,
            pause=DISK_FULL_DELAY if isinstance(error, exceptions.DiskFullError) else None,
        )

    def with_written(self, values):
        """Return the answer with what the provider's code wrote on the job instead of returning it.

        :param dict values: of fields of the job
        """
        if not values:
            return self
        written = Answer.from_dict({"state": self.state, **values})
        state = written.state if written.state in FINAL_STATES else self.state
        kept = {name: getattr(self, name) or getattr(written, name) for name in WRITTEN}
        error_type = self.error_type or written.error_type if state == "failed" else None
        return replace(self, state=state, error_type=error_type, **kept)

    def redacted(self, key):
        """Return the answer without a credential, wherever the provider put it.

        :param str key: empty for none
        """
        if not key:
            return self
        return replace(
            self,
            output=self.output and redact_key(self.output, key),
            error_message=self.error_message and redact(self.error_message, key),
            external_job_id=self.external_job_id and redact_key(self.external_job_id, key),
            provider_data=sanitize_json(self.provider_data, key, hides_names=True),
        )

    def tokens(self, kind):
        """Return the `prompt` or `completion` tokens that were used, 0 where unknown.

        What a model thinks is paid as completion. OpenAI counts it there; Gemini and xAI have it in
        `total_tokens` alone.

        >>> thought = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 103}
        >>> [Answer("completed", usage=thought).tokens(kind) for kind in ("prompt", "completion")]
        [9, 94]
        """
        told = self._count(kind)
        prompt = self._count("prompt")
        # Who tells a total and no prompt may mean both by it.
        return max(told, self._count("total") - prompt) if prompt and kind != "prompt" else told

    def _count(self, kind):
        return int(_number(self.usage.get(f"{kind}_tokens"), 0, 2**31 - 1) or 0)

    def __str__(self):
        return f"{self.state} ({self.error_type})" if self.error_type else self.state


def total(usages):
    """Return the sum of several usages, such as those of the turns of one answer.

    >>> total([{"prompt_tokens": 7, "completion_tokens": 2}, {"prompt_tokens": 5}])
    {'prompt_tokens': 12, 'completion_tokens': 2}
    """
    answers = [Answer("completed", usage=usage) for usage in usages if isinstance(usage, dict)]
    return {
        f"{kind}_tokens": sum(answer.tokens(kind) for answer in answers)
        for kind in ("prompt", "completion")
    }


def finish_reason_of(told):
    """Return the key of `FINISH_REASONS` for how a service says that an answer ended.

    >>> [finish_reason_of(told) for told in ("stop", "MAX_TOKENS", "odd", None, 7)]
    ['stop', 'length', 'other', None, None]
    """
    if not told or not isinstance(told, str):
        return None
    word = told.lower()
    word = FINISH_WORDS.get(word, word)
    return word if word in dict(FINISH_REASONS) else "other"


def _number(value, low, high):
    """Return a finite number within bounds, None for anything else a provider may send."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return min(high, max(low, value))


def job_id_of(value):
    """Return a provider's id of a job as text, None where there is none.

    :raise ProviderFailedError: when it cannot be one
    """
    text = text_of(value or "")
    if len(text) > LONGEST_ID or sanitize_text(text, one_way=True) != text:
        raise exceptions.ProviderFailedError(NO_ID)
    return text or None


def _storable(data):
    """Return a dict as JSON in PostgreSQL can hold it, None for anything else."""
    if not data or not isinstance(data, dict):
        return None
    data = sanitize_json(data, hides_names=True)
    try:
        text = json.dumps(data, allow_nan=False)
    except (TypeError, ValueError):
        return None
    return json.loads(text) if len(text) <= DATA_LIMIT else None
