import contextlib
import json

from odoo import api, models
from odoo.exceptions import AccessError, MissingError
from odoo.modules.registry import Registry

from ..const import FINAL_STATES, JOB_CHANNEL
from ..runner.messages import job_event
from ..runner.notifier import listen

#: Seconds after which a job is looked at though nothing was heard of it.
FALLBACK = 5.0
#: Seconds after which the place in the queue is looked at.
POSITION_LOOK = 1.0
#: Seconds for which the failure of a job is no end yet, because its retry comes sooner.
PATIENT_RETRY = 90.0
#: Questions about an external job that the inline mode asks at most.
INLINE_POLLS = 100


class LlmGenerationEngine(models.AbstractModel):
    """Relays what happens to a job, as events, to whoever asked for it."""

    _inherit = "llm.generation.engine"

    @api.model
    def _follow(self, job, *, heartbeats=False):
        """Yield the events of a job until it has ended.

        Commits the caller's transaction before each wait, so that none is open meanwhile and the
        runners can see the job. Closing the generator leaves the job alone.

        :param bool heartbeats: yield None before each wait, too
        :return: a generator of the event dicts that `generate_response()` documents
        """
        seen = {}
        if self._is_inline():
            yield from self._inline_events(job, seen)
            return
        self.env.cr.commit()  # pylint: disable=invalid-commit
        with listen(self.env.cr.dbname, JOB_CHANNEL, job_event(job.id)) as subscription:
            while True:
                yield from self._new_events(job, seen)
                if seen.get("ended"):
                    return
                if heartbeats:
                    yield None
                self.env.cr.commit()  # pylint: disable=invalid-commit
                # A queue that moves does not tell each waiting job its new place.
                subscription.wait(FALLBACK if seen["state"] == "running" else POSITION_LOOK)

    @api.model
    def _inline_events(self, job, seen):
        """Yield the events of a job that this thread has to run itself."""
        yield from self._new_events(job, seen)
        self._process(self.env["llm.generation.queue"]._get_or_create_queue(job.provider_id))
        yield from self._new_events(job, seen)
        for _poll in range(INLINE_POLLS):
            if seen["ended"] or seen["state"] != "running":
                return
            self._check_due()
            yield from self._new_events(job, seen)

    @api.model
    def _new_events(self, job, seen):
        """Yield what is new of a job since the last look, and remember it in `seen`."""
        if not (self.env.su or self._is_inline()):
            # In a worker that does nothing but this, nobody else hears of changed rights. Before
            # anything is read: who installs a module in this process holds the registry, and waits
            # for all who read the tables that it changes.
            Registry(self.env.cr.dbname).check_signaling(self.env.cr)
        with self._transaction(lazy=True) as follow, follow._one_connection():
            jobs = follow.env["llm.generation.job"].with_context(lang=self.env.lang)
            current = jobs.browse(job.id).exists()
            if current and not self._may_follow(current):
                seen["ended"] = True
                text = self.env._("You may no longer read this conversation.")
                yield {"type": "error", "error": text, "job_id": job.id}
                return
            if not current:
                seen["ended"] = True
                yield {"type": "cancelled", "job_id": job.id}
                return
            events = [*follow._state_events(current, seen), *follow._message_events(current, seen)]
            if seen["ended"]:
                events.append(follow._last_event(current))
        yield from events

    def _may_follow(self, job):
        """Return whether who follows may read a job and its thread now: rights come and go.

        :param job: in the transaction that looks at it
        """
        if self.env.su:
            return True
        own = job.with_env(job.env(user=self.env.uid, context=self.env.context, su=False))
        try:
            # sudo: a user may not read whether they were archived.
            is_active = own.env.user.sudo().active or own.env.user._is_superuser()
            return is_active and own.has_access("read") and own.thread_id.has_access("read")
        except (AccessError, MissingError):  # a company that is no longer theirs, or nobody
            return False

    def _one_connection(self):
        """Return a context in which reads share one connection, where each would take its own."""
        return getattr(self.env.cr, "hold", contextlib.nullcontext)()

    def _state_events(self, job, seen):
        waits_for_retry = job.state == "failed" and job._seconds_to_retry() < PATIENT_RETRY
        # In inline mode no time goes by: a retry never comes.
        waits_for_retry = waits_for_retry and not self._is_inline()
        seen["ended"] = job.state in FINAL_STATES and not waits_for_retry
        position = job.queue_position if job.state == "queued" else 0
        told = (job.state, position, job._status_sentence())
        if told == seen.get("told"):
            return
        seen.update(state=job.state, told=told)
        yield {
            "type": "job_status",
            "job_id": job.id,
            "state": job.state,
            "message": told[2],
            "position": position,
        }

    def _message_events(self, job, seen):
        message = job.output_message_id
        if not message:
            return
        store = json.loads(json.dumps(message.to_store_format(), default=str))
        if store == seen.get("message"):
            return
        if (seen.get("message") or {}).get("id") != message.id:
            kind = "message_create"
        else:
            kind = "message_chunk" if job.state == "running" else "message_update"
        seen["message"] = store
        yield {"type": kind, "message": store}

    def _last_event(self, job):
        if job.state == "completed":
            message = job.output_message_id
            store = message.to_store_format() if message else False
            ended = {"message": store, "finish_reason": job.finish_reason}
            if not job.post:
                ended["text"] = job.output_text
            return {"type": "done", "job_id": job.id, **ended}
        if job.state == "cancelled":
            return {"type": "cancelled", "job_id": job.id}
        return {"type": "error", "error": job._status_sentence(), "job_id": job.id}
