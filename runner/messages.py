"""What processes tell each other by NOTIFY: a class for each message, the only place of its text.

Servers of two releases may share a database while one takes the other's place: a text keeps its
meaning, and one that nobody knows has its hearer look at everything.
"""

from dataclasses import dataclass
from typing import ClassVar

from odoo.tools import split_every

#: Ids that one message names at most: PostgreSQL takes a text of less than 8000 bytes.
MOST_IDS = 500


@dataclass(frozen=True)
class Message:
    """What the runners are told on `RUNNER_CHANNEL`: a verb, and what it is about."""

    verb: ClassVar[str]
    ids: tuple = ()

    def __post_init__(self):
        object.__setattr__(self, "ids", self._bounded(tuple(self.ids)))

    def _bounded(self, ids):
        return ids

    @property
    def payload(self):
        """The text of it."""
        return f"{self.verb}:{','.join(map(str, self.ids))}" if self.ids else self.verb


class Queued(Message):
    """More may start in these queues, in any where none is named: look there."""

    verb = "queued"

    def _bounded(self, ids):
        return ids if len(ids) <= MOST_IDS else ()  # to look at more is no error


class SlotFree(Queued):
    """Slots of these queues are free. Who says so looks first, others a little later."""

    verb = "slot"


class Cancelled(Message):
    """These jobs no longer run: hang up on them. `each()` makes as many as it takes."""

    verb = "cancel"

    @classmethod
    def each(cls, job_ids):
        """Return the messages that name all of these jobs."""
        return [cls(some) for some in split_every(MOST_IDS, job_ids)]


class Due(Message):
    """Something may be due earlier than was known; nothing else may start."""

    verb = "clock"


class Lost(Message):
    """There are jobs that nobody executes any more: rescue them."""

    verb = "lost"


class Hello(Message):
    """A runner, named by its id, asks itself whether it hears what is said."""

    verb = "hello"


#: What to hear in a text that says nothing else: look at everything.
EVERYTHING = Queued()

_MESSAGES = {each.verb: each for each in (Queued, SlotFree, Cancelled, Due, Lost, Hello)}


def parse(payload):
    """Return the message of a text, `EVERYTHING` for one that is none."""
    verb, _colon, ids = payload.partition(":")
    if verb not in _MESSAGES:
        return EVERYTHING
    try:
        return _MESSAGES[verb](int(each) for each in ids.split(",") if each)
    except ValueError:
        return EVERYTHING


def job_event(job_id):
    """Return the text on `JOB_CHANNEL` that something happened to a job: who waits hears it."""
    return str(job_id)
