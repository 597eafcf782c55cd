"""What a provider can say went wrong, one class per meaning.

A provider raises one of these from `create_generation_job()`, `check_generation_job_status()`
or while it answers directly. What then happens to the job and to its queue follows from the
class, and from whose fault it is (`protocol/backoff.py`). Errors of `requests` need not be
translated: `protocol/http_errors.py` does it.
"""

#: Whose fault an error is. The request: the job alone bears it. The model, the account: they pause,
#: and their jobs are kept. The service: it is asked again.
SCOPES = ("request", "model", "account", "service")


class GenerationError(Exception):
    """A generation failed and nothing more is known: the job is retried a few times."""

    error_type = "transient"
    scope = "service"

    def __init__(self, message="", *, retry_after=None, scope=None, unbilled=False):
        """Keep the sentence for the user, and what decides on the next try.

        :param str message: what went wrong, without keys or prompts
        :param float retry_after: seconds to wait before the next call, where the provider tells
        :param str scope: one of `SCOPES`, where it is another one than that of the class
        :param bool unbilled: whether it is sure that nothing was done: the first further tries come
            within seconds, and cost the job no retry
        """
        super().__init__(message)
        self.retry_after = retry_after
        self.scope = scope or self.scope
        self.unbilled = unbilled


class RateLimitedError(GenerationError):
    """Too many calls. The queue waits `retry_after` seconds; that costs the job no retry.

    With the scope `model` only the jobs of that model wait; with `request` that job, at the cost of
    a retry.
    """

    error_type = "rate_limited"
    scope = "account"


class OverloadedError(GenerationError):
    """The provider has no capacity now. The first waits cost no retry."""

    error_type = "overloaded"


class TransientError(GenerationError):
    """The provider did not do the work, and may do it when asked again."""

    error_type = "transient"


class UnknownOutcomeError(GenerationError):
    """The call ended without an answer: the provider may have done (and billed) the work."""

    error_type = "unknown_outcome"


class UnreadableAnswerError(UnknownOutcomeError):
    """An answer came that nobody can read, and another one would be paid for, too. Final."""

    error_type = "unreadable"


class DiskFullError(UnknownOutcomeError):
    """The provider did the work, and this server has no room for the answer. The queue waits."""

    scope = "account"  # nobody else has room for an answer


class QuotaExceededError(GenerationError):
    """The account has no credit left. The queue waits, the managers are told, jobs are kept."""

    error_type = "quota"
    scope = "account"


class AuthenticationError(GenerationError):
    """The provider refuses our credentials. Like a quota: the queue waits, jobs are kept.

    With the scope `model` it refuses them for that model only, and no other has to wait.
    """

    error_type = "authentication"
    scope = "account"


class BadRequestError(GenerationError):
    """The provider will never accept this request. Final."""

    error_type = "bad_request"
    scope = "request"


class ContentRefusedError(GenerationError):
    """The provider refuses the content, or it is too long for the model. Final."""

    error_type = "content_refused"
    scope = "request"


class ProviderFailedError(GenerationError):
    """The provider accepted the job and failed at it."""

    error_type = "provider_failed"


class GenerationCancelledError(GenerationError):
    """The generation was cancelled, at the provider or here. Final."""

    error_type = "cancelled"
    scope = "request"


class NoJobInterfaceError(NotImplementedError):
    """The provider runs no jobs of its own: it is served by direct generation."""
