"""The life of a generation job, in one place."""

from typing import NamedTuple

#: Each state, and who moves a job out of it.
STATES = [
    # Being prepared; its owner queues or cancels it.
    ("draft", "Draft"),
    # Waits for a slot of its provider's queue; the engine claims it.
    ("queued", "Queued"),
    # A provider works on it; the provider's answer, an error or its owner ends it.
    ("running", "Running"),
    # Answered. Final.
    ("completed", "Completed"),
    # Ended by an error; its owner, a manager or the automatic retry queues it again.
    ("failed", "Failed"),
    # Given up by its owner or a manager. Final.
    ("cancelled", "Cancelled"),
]

#: target state -> states that it may be entered from
TRANSITIONS = {
    "queued": ("draft", "running", "failed"),  # submit, give back, retry
    "running": ("queued",),  # claim
    "completed": ("running",),
    "failed": ("queued", "running"),
    "cancelled": ("draft", "queued", "running"),
}

ACTIVE_STATES = ("queued", "running")
FINAL_STATES = ("completed", "failed", "cancelled")


class SubState(NamedTuple):
    """What a state does not say of a job: the condition, for SQL and for the ORM.

    `condition` is one on the job's columns besides that on its state, with `{}` before each for
    the name of the table. Indexes repeat the SQL, so it is written as they write it.
    """

    name: str
    state: str
    condition: str
    leaves: list

    def sql(self, table=""):
        """Return the condition on the job's row.

        :param str table: the alias of the jobs' table, for a statement that has others, too
        """
        prefix = f"{table}." if table else ""
        return f"{prefix}state = '{self.state}' AND {self.condition.format(prefix)}"

    @property
    def domain(self):
        """The same as a domain."""
        return [("state", "=", self.state), *self.leaves]

    def holds(self, job):
        """Return whether a job is in it, for who may read what it depends on."""
        return bool(job.filtered_domain(self.domain))


#: Stands in line: is claimed as soon as its queue has a slot for it.
READY = SubState("ready", "queued", "{}is_scheduled IS NOT TRUE", [("is_scheduled", "=", False)])
#: Is not in line yet: its date has not come, its next try has to wait, or an addon holds it back.
SCHEDULED = SubState("scheduled", "queued", "{}is_scheduled IS TRUE", [("is_scheduled", "=", True)])
#: Of those the ones that found an answer being written in their thread, whose end lets them in.
WAITS_FOR_THREAD = SubState(
    "waits_for_thread",
    "queued",
    "{0}is_scheduled IS TRUE AND {0}error_type = 'busy'",
    [("is_scheduled", "=", True), ("error_type", "=", "busy")],
)
#: Has failed, and is queued again by itself: that is not its end.
RETRYING = SubState("retrying", "failed", "{}retry_at IS NOT NULL", [("retry_at", "!=", False)])
#: Runs at its provider, which is asked about it; no process of ours is needed for that.
AT_PROVIDER = SubState(
    "at_provider", "running", "{}external_job_id IS NOT NULL", [("external_job_id", "!=", False)]
)
SUB_STATES = (READY, SCHEDULED, WAITS_FOR_THREAD, RETRYING, AT_PROVIDER)

#: Uses of a model that answer with files.
MEDIA_USES = ("generation", "image_generation")
#: Uses of a model that one talks with.
CHAT_USES = ("chat", "multimodal")

#: Why an attempt failed: what `exceptions.py` can say, and what the engine itself finds out.
ERROR_TYPES = [
    ("rate_limited", "Rate limited"),
    ("overloaded", "Provider overloaded"),
    ("transient", "Temporary failure"),
    ("unknown_outcome", "Connection lost; result unknown"),
    ("unreadable", "Unreadable answer"),
    ("quota", "Quota exhausted"),
    ("authentication", "Authentication refused"),
    ("bad_request", "Request refused"),
    ("content_refused", "Content refused"),
    ("provider_failed", "Failed at the provider"),
    ("cancelled", "Cancelled at the provider"),
    ("busy", "Thread is busy"),
    ("timeout", "Took too long"),
    ("worker_died", "Worker died"),
    ("access", "Access lost"),
    ("internal", "Unexpected error"),
]

#: Errors that no further try changes: what is asked has to. The second a manager may have mended,
#: whose models and providers it may be about.
HOPELESS = ("content_refused", "bad_request")

#: Errors after which the provider may have done the work all the same.
UNKNOWN_OUTCOMES = ("unknown_outcome", "unreadable", "timeout", "worker_died")

#: How an answer ended, where its provider tells: whether it is whole.
FINISH_REASONS = [
    ("stop", "Complete"),
    ("length", "Cut off at its limit"),
    ("content_filter", "Stopped by a filter"),
    ("refusal", "Refused by the model"),
    ("tool_calls", "More tools wanted"),
    # Its job was cancelled, or failed, when it had begun: half an answer.
    ("cancelled", "Cancelled"),
    ("broken", "Broke off"),
    ("other", "Other"),
]
#: Those after which the answer is not all of what was asked for.
UNFINISHED = ("length", "content_filter", "refusal", "tool_calls", "cancelled", "broken")

#: How an attempt ended; `running` while it has not.
OUTCOMES = [
    ("running", "Running"),
    ("completed", "Completed"),
    ("failed", "Failed"),
    ("cancelled", "Cancelled"),
    ("snoozed", "Returned to the Queue"),
]

DEFAULT_PRIORITY = 10
#: Retries of a job at most: each may be paid for.
MAX_RETRIES = 100
DEFAULT_MAX_RETRIES = 3
DEFAULT_MAX_CONCURRENT = 5
DEFAULT_RETRY_DELAY_MINUTES = 5.0
#: Seconds; longer than any chat answer, shorter than a forgotten job.
DEFAULT_JOB_TIMEOUT = 1800
DEFAULT_RETENTION_DAYS = 7
#: No id is larger: the database refuses to look for a larger number, and says so in the log.
LAST_ID = 2**31 - 1
#: The least and the largest of the settings that are numbers; of others 0 and `LAST_ID`.
SETTING_RANGES = {
    "max_concurrent_jobs": (1, LAST_ID),
    "max_retries": (0, MAX_RETRIES),
    "retention_days": (1, 36_500),
    "runner_slots": (1, 10_000),
}

#: Tokens reserved for an answer whose length is not known yet.
DEFAULT_ANSWER_TOKENS = 256

#: Characters of an error kept on a job: enough to diagnose, too little to fill a table.
ERROR_MESSAGE_LIMIT = 2000

#: Where providers send webhooks; the job's id and its token follow.
WEBHOOK_PATH = "/llm_generate_job/webhook"

#: PostgreSQL channel that wakes the runners: jobs were queued, a slot is free, a job was cancelled.
RUNNER_CHANNEL = "llm_generate_job_runner"
#: How the names of all threads of a runner begin; its database follows.
RUNNER_THREADS = "llm_generate_job.runner."
#: PostgreSQL channel that tells who waits for a job that something happened; payload: the job's id.
JOB_CHANNEL = "llm_generate_job_event"
#: Notification on the bus to the owner of jobs.
#: Its payload is a list of `llm.generation.job._bus_payload()`.
BUS_JOB_UPDATE = "llm.generation.job/update"
#: Notification on the bus to the managers: something happened in these queues.
BUS_QUEUE_UPDATE = "llm.generation.queue/update"
#: The part of a company's channel that only its LLM managers hear.
BUS_QUEUE_CHANNEL = "llm_generation_queue"
