import json
import logging
import time
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import NamedTuple

from odoo import api, models
from odoo.exceptions import AccessError

from odoo.addons.llm_generate_job import exceptions
from odoo.addons.llm_generate_job.protocol.answer import (
    NO_WORD,
    Answer,
    Claim,
    finish_reason_of,
    job_id_of,
)
from odoo.addons.llm_generate_job.protocol.backoff import believable
from odoo.addons.llm_generate_job.protocol.http_errors import classify, traceback_of
from odoo.addons.llm_generate_job.protocol.sanitize import redact, text_of
from odoo.addons.llm_generate_job.runner.cursor import is_away, is_locked
from odoo.addons.llm_generate_job.runner.executor import CallRecorder
from odoo.addons.llm_generate_job.runner.limits import ERRANDS
from odoo.addons.llm_generate_job.runner.messages import Due

from .. import statements as sql

_logger = logging.getLogger(__name__)

BATCH = "llm.generation.provider.batch"
#: Seconds between two looks of a process at what gathers.
COLLECT_PAUSE = 5.0
#: Batches that one look fills at most.
MOST_FILLED = 100
#: Seconds that a job must be able to wait for: most batches are done within the hour.
LEAST_TIME = 2 * 3600
#: How long before most dates of a batch its rest is cancelled: a service takes ten minutes.
MARGIN = timedelta(minutes=15)
#: Seconds that one step may take. Who died in it is followed by another afterwards.
LEASE = 600
#: Seconds between two questions about a batch: at least, at most, and where it is to end.
FIRST_POLL, LAST_POLL, END_POLL = 60.0, 300.0, 30.0
#: Seconds until a step is tried again that failed, or that met a job which somebody changes.
AGAIN, HELD = 60.0, 30.0
#: Submissions of one batch of which none came back, or was found again.
MOST_TRIES = 5
#: How long after its submission a batch is asked about: services end one after a day.
LONGEST = timedelta(hours=48)
#: Seconds for which no batch of a model is submitted: the provider has no room, or takes none.
NO_ROOM_PAUSE, REFUSED_PAUSE = 900, 3600
#: Seconds for which an uninstallation asks providers to cancel what they have.
UNINSTALL_SECONDS = 60
#: Answers that are stored in one transaction, and their characters.
CHUNK, CHUNK_SIZE = 200, 8_000_000
#: Errors that say for sure that the provider has not taken a batch, and will not or may later.
REFUSED = ("bad_request", "content_refused", "provider_failed")
REFUSED_NOW = ("rate_limited", "quota", "authentication")

NO_END = "The provider ended the batch, and says that it goes on with this request."
NO_ANSWER = "The model answered nothing. Ask in other words, or try again."
UNSTORED = "The answer of job %s in batch %s cannot be stored\n%s"
QUIET = {"mail_create_nosubscribe": True, "mail_post_autofollow": False, "mail_notrack": True}

#: When each process looked last at what gathers, by database.
_looked = {}


class SubmissionError(Exception):
    """The call that submits a batch raised its cause: the provider has it, or not, or who knows."""


class Step(NamedTuple):
    """What came of a step: what is written on the batch, and what becomes of its waiting jobs."""

    values: dict
    #: None leaves them, False has them run by themselves, True has them gather again.
    gather: bool | None = None
    #: The tokens of answers that came too late, by the id of their job.
    lost: dict | None = None

    @property
    def is_stored(self):
        """Whether all that the provider did is stored here, and may be deleted there."""
        return self.values.get("state") == "done" and not self.values.get("error_type")


class LlmGenerationEngine(models.AbstractModel):
    """Has batches of providers filled, submitted, asked about, and their answers stored.

    What is committed before each step, and what follows if the process dies in it:

    - collect: nothing; nothing has happened.
    - submit: the key, and that the provider may have it (`submitting`); it is looked for by its
      key, and submitted again only if the provider does not have it.
    - check: the provider's id (`running`); it is asked again.
    - store: the answers before, each with its job; the jobs are answered that wait still.

    A step of a batch is one process's for a while. What it notes counts only if nobody has taken
    the next step since.
    """

    _inherit = "llm.generation.engine"  # pylint: disable=consider-merging-classes-inherited

    # === COLLECT === #

    @api.model
    def _release_held(self):
        self._collect_batches()
        return super()._release_held()

    @api.model
    def _is_held_due(self):
        return super()._is_held_due() or self._may_collect()

    @api.model
    def _may_collect(self):
        """Return whether enough gathers for a batch, or a job has to leave the lane."""
        now = time.monotonic()
        if not self._is_inline() and now < _looked.get(self.env.cr.dbname, -1e9) + COLLECT_PAUSE:
            return False
        _looked[self.env.cr.dbname] = now
        params = {"seconds": LEAST_TIME}
        return bool(self._select(sql.ANY_LEAVES, params) or self._select(sql.GATHERED))

    @api.model
    def _collect_batches(self):
        """Fill batches with what gathers; jobs that would be late leave the lane."""
        if not self._select(sql.FILL_LOCK)[0][0]:
            return
        self._change(sql.LEAVE_LANE, {"seconds": LEAST_TIME})
        for _batch in range(MOST_FILLED):
            filled = [self._fill_batch(*row) for row in self._select(sql.GATHERED)]
            if not any(filled):
                break

    @api.model
    def _fill_batch(self, provider_id, model_id, most, room):
        """Put jobs into a new batch; return how many."""
        provider = self.env["llm.provider"].browse(provider_id)
        if not provider._takes_batches():  # the addon that has it is no longer there
            self.env["llm.generation.queue"]._get_or_create_queue(provider)._close_lane()
            return 0
        batch = self.env[BATCH].create({
            "provider_id": provider_id,
            "model_id": model_id,
            "next_step_at": self._now(),
        })
        most = min(most, provider._batch_limits()["jobs"])
        params = {"provider": provider_id, "model": model_id, "jobs": most, "room": room}
        rows = self._change(sql.FILL, {**params, "batch": batch.id})
        if not rows:
            batch.unlink()
            return 0
        batch.write({"job_count": len(rows), "deadline": batch._due_date()})
        self._wake(Due())
        return len(rows)

    @api.model
    def _hurry_batches(self, batches):
        """Have these batches looked at now."""
        if self._change(sql.HURRY, [batches.ids], touches=[BATCH]):
            self._wake(Due())

    @api.model
    def _hurry_unwanted(self, batches):
        """Have those of these batches looked at now whose answers nobody waits for any more."""
        rows = self._select(sql.UNWANTED, [batches.ids])
        self._hurry_batches(batches.browse(row[0] for row in rows))

    # === STEPS === #

    @api.model
    def _next_due(self):
        due = super()._next_due()
        (own,) = self._select(sql.NEXT_STEP, {"most": ERRANDS // 2})[0]
        if own is None:
            return due
        own = max(0.0, float(own))
        return own if due is None else min(due, own)

    @api.model
    def _claim_errands(self, limit):
        errands = super()._claim_errands(limit)
        share = max(limit, ERRANDS) // 2
        params = {"limit": limit - len(errands), "lease": LEASE, "most": share}
        with self._transaction() as own:
            rows = own._change(sql.CLAIM_STEPS, params, touches=[BATCH])
        return errands + [("_step_batch", *row) for row in rows]

    @api.model
    def _step_batch(self, batch_id, step, was):
        """Do what is next with a batch, and note what came of it.

        :param int step: the number of the step, by which it is known who took it
        :param str was: the state that the batch was in
        """
        with self._transaction(lazy=True) as call:
            batch = call.env[BATCH].browse(batch_id).exists()
            if not batch:
                return
            try:
                taken = call._act_on(batch, step, was)
            except SubmissionError as error:
                call.env.cr.rollback()
                taken = call._after_submission(batch, error.__cause__)
            except BaseException as error:  # noqa: BLE001 whatever it is, the batch goes on
                call.env.cr.rollback()
                taken = call._after_error(batch, error)
        is_noted = self._note_step(batch_id, step, taken)
        if not is_noted and (external := taken.values.get("external_id")):
            self._cancel_overtaken(batch_id, external)
        if is_noted and taken.is_stored:
            self._forget_batch(batch_id)

    @api.model
    def _note_step(self, batch_id, step, taken):
        """Note what came of a step; return whether it still counted."""
        with self._transaction(waits=True) as own:
            if not own._select(sql.LOCK_STEP, [batch_id, step]):
                return False
            batch = own.env[BATCH].browse(batch_id)
            if taken.gather is not None:
                own._return_jobs(batch, gather=taken.gather)
            # What is stored is deleted at the provider yet, by the same thread.
            lease = own._after(LEASE) if taken.is_stored else False
            batch.write({"leased_until": lease, **taken.values})
            if taken.lost:
                own._after_lost_answers(taken.lost)
            if taken.values.get("state") in {"done", "cancelled", "failed"}:
                batch.write({"next_step_at": False, "ended_at": own._now()})
                _logger.info("Batch %s of jobs: %s", batch.id, batch.state)
        self._wake_now()
        return True

    @api.model
    def _wake_now(self):
        with self._transaction() as own:
            own._wake(Due())

    @api.model
    def _return_jobs(self, batch, jobs=None, *, gather=False):
        """Let jobs leave a batch: for the ordinary lane, or to gather again."""
        params = {"batch": batch.id, "jobs": jobs, "gather": gather}
        rows = self._change(sql.RETURN_JOBS, params)
        if rows:
            self._notify(self.env["llm.generation.job"].browse(row[0] for row in rows))
        return len(rows)

    @api.model
    def _cancel_overtaken(self, batch_id, external):
        """Take back a batch that was submitted by who had lost it: another was in its place."""
        with self._transaction(lazy=True) as call:
            batch = call.env[BATCH].browse(batch_id)
            if batch.external_id == external:
                return
            _logger.warning("Batch %s was submitted again by another process", batch_id)
            batch._fields["external_id"]._update_cache(batch, external)
            batch.provider_id.cancel_generation_batch(batch)

    @api.model
    def _forget_batch(self, batch_id):
        """Have the provider delete what is stored here; what it keeps all the same, expires."""
        with self._transaction(lazy=True) as call:
            batch = call.env[BATCH].browse(batch_id)
            try:
                batch.provider_id.forget_generation_batch(batch)
            except Exception as error:  # noqa: BLE001 nothing depends on it
                told = redact(error, batch.provider_id._told_key())
                _logger.info("Batch %s: the provider did not delete it: %s", batch_id, told)
        with self._transaction(waits=True) as own:
            own.env[BATCH].browse(batch_id).exists().write({"leased_until": False})
        self._wake_now()

    @api.model
    def _act_on(self, batch, step, was):
        if was == "running":
            return self._check_batch(batch, step)
        # Without a try, which is noted before its call, there is nothing to be found.
        if batch.tries and (external := batch.provider_id.find_generation_batch(batch)):
            _logger.info("Batch %s was submitted before: %s", batch.id, external)
            return Step(self._taken(external))
        waiting, soon = batch._waiting_dates(), self._after(LEAST_TIME)
        urgent = [job_id for job_id, date in waiting if date <= soon]
        if urgent and not self._note_progress(batch, step, {}, urgent):
            return Step({})
        is_wanted = len(waiting) > len(urgent) and self._queue_of(batch).uses_batches
        if batch.cancel_requested or not is_wanted:
            return Step({"state": "cancelled"}, gather=False)
        if batch.tries >= MOST_TRIES:
            lost = self.env._("The batch could not be submitted. Its jobs run by themselves.")
            return Step({"state": "failed", "error_message": lost}, gather=False)
        if self._is_batch_held(batch):
            return Step({"state": "collected", "next_step_at": self._after(AGAIN)})
        return self._submit_batch(batch, step)

    @api.model
    def _is_batch_held(self, batch):
        """Return whether nothing of a batch's queue, or of its model, may start now."""
        queue, now = self._queue_of(batch), self._now()
        of_model = [("model_id", "=", batch.model_id.id)]
        pause = self.env["llm.generation.model.pause"]
        pauses = pause.search([("queue_id", "=", queue.id), *of_model]).mapped("paused_until")
        pausing = [("provider_id", "=", batch.provider_id.id), ("pauses_until", ">", now)]
        if self.env[BATCH].search_count([*pausing, *of_model], limit=1):
            return True
        is_open = queue.enabled and batch.provider_id.active
        return not is_open or any(one and one > now for one in (queue.paused_until, *pauses))

    # === SUBMIT === #

    @api.model
    def _submit_batch(self, batch, step):
        tried = {"tries": batch.tries + 1, "tried_at": batch.tried_at or self._now()}
        if not self._note_progress(batch, step, tried):
            return Step({})
        requests, refused, rest = self._requests_of(batch)
        # That took a while. The call that costs comes now, unless somebody else has the batch.
        if not self._note_progress(batch, step, {"job_count": len(requests)}, refused, rest):
            return Step({})
        if not requests:
            return Step({"state": "cancelled"}, gather=False)
        try:
            told = batch.provider_id.submit_generation_batch(batch, requests)
        except Exception as error:
            raise SubmissionError from error
        if not (external := job_id_of(told)):
            raise exceptions.UnknownOutcomeError(
                self.env._("The provider accepted the batch without an id.")
            )
        return Step(self._taken(external))

    @api.model
    def _note_progress(self, batch, step, values, refused=(), rest=()):
        """Note how far a step is, and renew its lease; return whether the step is still ours."""
        with self._transaction(waits=True) as own:
            if not own._select(sql.LOCK_STEP, [batch.id, step]):
                return False
            if refused:
                own._return_jobs(batch, list(refused))
            if rest:
                own._return_jobs(batch, list(rest), gather=True)
            own.env[BATCH].browse(batch.id).write({"leased_until": own._after(LEASE), **values})
        self.env.cr.commit()  # pylint: disable=invalid-commit
        return True

    @api.model
    def _taken(self, external):
        return {
            "state": "running",
            "external_id": external,
            "submitted_at": self._now(),
            "next_step_at": self._after(FIRST_POLL),
            "error_type": False,
            "error_message": False,
        }

    @api.model
    def _requests_of(self, batch):
        """Return what a batch asks, by `custom_id`.

        :return: the requests; the ids of the jobs that no batch can ask for; and of those that are
            too much for this one
        """
        jobs = batch._waiting_jobs()
        # Since they were chosen, a conversation may have got tools, or another model.
        fit = jobs.filtered(
            lambda job: (
                (job.provider_id, job.model_id) == (batch.provider_id, batch.model_id)
                and not (job.post and job.thread_id.tool_ids)
            )
        )
        with self._transaction() as own:
            contexts = own._job_contexts([Claim(job_id, 0) for job_id in fit.ids])
        most = batch.provider_id._batch_limits()
        requests, refused, rest, size = {}, (jobs - fit).ids, [], 0
        with self._one_connection():  # many reads, and nothing is waited for
            for context in contexts:
                job_id = context.claim.job_id
                try:
                    request = self._request_of(context)
                except Exception as error:
                    if is_away(error):
                        raise
                    # By itself the job tells what is wrong.
                    _logger.info("Job %s is left out of a batch: %s", job_id, type(error).__name__)
                    refused.append(job_id)
                    continue
                length = len(json.dumps(request))
                if length > most["bytes"]:
                    refused.append(job_id)
                elif len(requests) >= most["jobs"] or size + length > most["bytes"]:
                    rest.append(job_id)
                else:
                    size += length
                    requests[batch._custom_id(job_id)] = request
        return requests, refused, rest

    @api.model
    def _request_of(self, context):
        recorder = CallRecorder(is_repeatable=True)
        job = self._recall(context, recorder)
        with recorder.answering(job):
            return job.provider_id.prepare_generation_batch(job)

    # === CHECK === #

    @api.model
    def _check_batch(self, batch, step):
        """Ask about a batch; one that nobody wants, or of which most must run soon, is to end."""
        provider, due = batch.provider_id, batch._due_date()
        ends = batch.cancel_requested or not due or due - MARGIN <= self._now()
        if ends:
            self._cancel_batch(batch)
        told = provider.check_generation_batch(batch)
        state = told.get("state")
        if state == "ended":
            return self._store_batch(batch, step, told)
        if state == "failed":
            return self._batch_failed(batch, told.get("error_type"), told.get("error_message"))
        values = {"error_type": False, "error_message": False, "deadline": due}
        if isinstance(told.get("done"), int):
            values["done_count"] = max(0, min(told["done"], batch.job_count))
        if batch.submitted_at and batch.submitted_at + LONGEST < self._now():
            late = self.env._("The provider did not end the batch in time.")
            return self._give_up(batch, "timeout", late)
        wait = END_POLL if ends else self._poll_pause(batch, due, told.get("poll_after"))
        return Step({**values, "next_step_at": self._after(wait)})

    @api.model
    def _cancel_batch(self, batch):
        try:
            done = batch.provider_id.cancel_generation_batch(batch)
            _logger.info("Batch %s: cancelled at the provider: %s", batch.id, done)
        except Exception as error:  # noqa: BLE001 one that is ending refuses; it is asked about
            told = redact(error, batch.provider_id._told_key())
            _logger.info("Batch %s: the provider did not cancel it: %s", batch.id, told)

    @api.model
    def _poll_pause(self, batch, due, wanted):
        """Return the seconds until the next question: a twentieth of the time that it took."""
        now = self._now()
        age = (now - (batch.submitted_at or now)).total_seconds()
        pause = wanted or min(LAST_POLL, max(FIRST_POLL, age / 20))
        left = (due - MARGIN - now).total_seconds()
        return min(pause, max(left, END_POLL))

    @api.model
    def _batch_failed(self, batch, error_type, words):
        """Give a batch up that the provider did not do. Where it had no room, its jobs wait on."""
        has_no_room = error_type == "rate_limited"
        values = {
            "pauses_until": self._after(NO_ROOM_PAUSE if has_no_room else REFUSED_PAUSE),
            "state": "failed",
            "error_type": error_type or "provider_failed",
            "error_message": words and redact(words, batch.provider_id._told_key()),
        }
        return Step(values, gather=has_no_room)

    @api.model
    def _give_up(self, batch, error_type, words):
        """Give a batch up that the provider may go on with: its jobs are paid for elsewhere."""
        if batch.external_id:
            self._cancel_batch(batch)
        return self._batch_failed(batch, error_type, words)

    # === STORE === #

    @api.model
    def _store_batch(self, batch, step, told):
        """Store what an ended batch has brought, each answer with its job, some at a time.

        Where that is less than the provider says that it did, it is read once more.
        """
        used, answered, brought = Counter(), {}, set()
        for results in self._chunks_of(batch, told.get("results") or ()):
            brought |= results.keys()
            answers = {id_: one for id_, one in results.items() if one.get("state") != "cancelled"}
            for job_id, answer in answers.items():
                priced = Answer.from_dict({"state": "completed", "usage": answer.get("usage")})
                tokens = {kind: priced.tokens(kind) for kind in ("prompt", "completion")}
                used.update(tokens)
                answered[job_id] = sum(tokens.values())
            self._store_answers(batch, answers)
            if not self._note_progress(batch, step, {}):  # another goes on with it
                return Step({})
        missing = self._missing_results(batch, told.get("done"), len(brought))
        if missing and batch.error_type != missing["error_type"]:
            return Step({**missing, "next_step_at": self._after(AGAIN)})
        waiting = {row[0] for row in self._select(sql.UNANSWERED, [batch.id])}
        if waiting & answered.keys():  # somebody is changing them just now
            return Step({"next_step_at": self._after(HELD)})
        stored = dict(self._select(sql.ANSWERED, [list(answered), batch.external_id]))
        completed = sum(stored.values())
        late = answered.keys() - stored.keys()
        lost = {job_id: answered[job_id] for job_id in late if answered[job_id]}
        values = {
            "state": "done",
            "done_count": len(answered),
            "completed_count": completed,
            "failed_count": len(stored) - completed,
            "returned_count": len(waiting),
            "late_count": len(late),
            "prompt_tokens": used["prompt"],
            "completion_tokens": used["completion"],
            "error_type": False,
            "error_message": False,
            **missing,
        }
        return Step(values, gather=False, lost=lost)

    @api.model
    def _missing_results(self, batch, done, brought):
        """Return what is noted where a batch brings less than the provider did, else nothing.

        What is cut where a line ends looks like all there is.
        """
        done = min(done, batch.job_count) if isinstance(done, int) else 0
        if brought >= done:
            return {}
        words = self.env._(
            "The provider says that it did %(done)s requests, and brings %(brought)s results. It"
            " keeps them.",
            done=done,
            brought=brought,
        )
        return {"error_type": "unreadable", "error_message": words}

    @api.model
    def _chunks_of(self, batch, results):
        """Yield the answers to jobs of a batch, by the id of the job, some at a time."""
        chunk = {}
        try:
            for job_id, result, is_full in self._results_of(batch, results):
                chunk[job_id] = result
                if is_full:
                    yield chunk
                    chunk = {}
        except Exception:
            if chunk:  # what came is there, whatever keeps the rest back
                yield chunk
            raise
        if chunk:
            yield chunk

    @api.model
    def _results_of(self, batch, results):
        """Yield the id of each job that is answered, by what, and whether that fills a chunk."""
        number = size = 0
        for custom_id, result in results:
            job_id = batch._job_id_of(custom_id)
            if not job_id:
                continue
            number, size = number + 1, size + len(text_of(result.get("text") or ""))
            is_full = number >= CHUNK or size > CHUNK_SIZE
            yield job_id, result, is_full
            if is_full:
                number = size = 0

    @api.model
    def _store_answers(self, batch, answers):
        """Store answers; one that cannot be stored does not hold up the rest."""
        try:
            with self._transaction() as own:
                own._store_chunk(batch, answers)
        except BaseException as error:
            if len(answers) > 1 and (is_locked(error) or not is_away(error)):
                for job_id, answer in answers.items():
                    self._store_answers(batch, {job_id: answer})
                return
            if is_locked(error):
                return  # the next step stores it
            if is_away(error):
                raise
            [(job_id, answer)] = answers.items()
            _logger.error(UNSTORED, job_id, batch.id, traceback_of(error))  # noqa: TRY400 redacted
            if answer.get("error_type") != "internal":
                broken = {"state": "failed", "error_type": "internal"}
                self._store_answers(batch, {job_id: {**broken, "usage": answer.get("usage")}})

    def _store_chunk(self, batch, answers):
        params = {
            "jobs": list(answers),
            "batch": batch.id,
            "name": batch.external_id,
            "submitted_at": batch.submitted_at,
        }
        touches = ["llm.generation.job", "llm.generation.attempt"]
        rows = self._change(sql.CLAIM_RESULTS, params, touches=touches)
        claims = [Claim(*row, provider_id=batch.provider_id.id) for row in rows]
        contexts = self._job_contexts(claims)
        key = self._key_of(contexts[0]) if contexts else ""
        pairs = [
            (context.claim, self._answer_in_batch(context, answers[context.claim.job_id], key))
            for context in contexts
        ]
        self.env.flush_all()
        self.with_context(stores_batch=True)._apply(pairs)

    @api.model
    def _answer_in_batch(self, context, result, key):
        """Post the answer to a job of a batch; return what is stored of it."""
        recorder = CallRecorder(is_repeatable=True)
        usage = Answer.from_dict({"state": "completed", "usage": result.get("usage")}).usage
        try:
            answer = self._post_result(self._recall(context, recorder), result)
        except (AccessError, exceptions.GenerationError) as error:
            lang = context.context.get("lang")
            told_by = {"polling": False, "recorder": recorder, "key": key}
            answer = self.with_context(lang=lang)._answer_of(error, context.claim, **told_by)
        return replace(answer.redacted(key), usage=answer.usage or usage)

    @api.model
    def _post_result(self, job, result):
        """Post what a result says; see `check_generation_batch()`.

        :raise GenerationError: where it tells an error, or says nothing
        """
        if error := result.get("error"):
            raise classify(error) or exceptions.ProviderFailedError(redact(error))
        if result.get("state") == "failed":
            return Answer.from_dict(result)
        if result.get("state") != "completed":  # a batch that has ended brings no more of it
            raise exceptions.UnreadableAnswerError(NO_END)
        text = text_of(result.get("text") or "")
        reason = finish_reason_of(result.get("finish_reason"))
        if not text.strip():
            kind, words = NO_WORD.get(reason, (exceptions.ProviderFailedError, NO_ANSWER))
            raise kind(words)
        if not job.post:
            return Answer.from_dict({**result, "output": text})
        job._put_question()
        message = job.thread_id.with_context(**QUIET).message_post(
            body=text,
            llm_role="assistant",
            author_id=False,
            parent_id=job.input_message_id.id,
        )
        return Answer.from_dict({**result, "output_message_id": message.id})

    @api.model
    def _settle_tokens(self, jobs, answers):
        # What a batch used was never taken from the allowance of a minute. By now those are no
        # longer marked that will be tried again.
        taken = jobs.browse() if self.env.context.get("stores_batch") else jobs
        return super()._settle_tokens(taken, answers)

    # === ERRORS === #

    @api.model
    def _after_error(self, batch, error):
        """Return what becomes of a batch of which the provider could not be asked.

        It is asked again, unless the provider's own code says that it has failed: what HTTP says
        may be a proxy's word, and the provider goes on with it.
        """
        _known, values, wait = self._known_error(batch, error)
        if isinstance(error, exceptions.NoJobInterfaceError):  # its addon is gone
            return self._batch_failed(batch, None, values["error_message"])
        has_failed = batch.external_id and values["error_type"] == "provider_failed"
        if has_failed or self._is_too_old(batch):
            return self._give_up(batch, values["error_type"], values["error_message"])
        # Nobody else asks about it: a pause of all calls says little of one question.
        return Step({**values, "next_step_at": self._after(min(wait, LAST_POLL))})

    @api.model
    def _after_submission(self, batch, error):
        """Return what becomes of a batch whose submission raised an error."""
        known, values, wait = self._known_error(batch, error)
        kind, words = values["error_type"], values["error_message"]
        has_none = isinstance(error, exceptions.NoJobInterfaceError)
        if has_none or kind in REFUSED or self._is_too_old(batch):
            return self._batch_failed(batch, None if has_none else kind, words)
        wait = max(wait, min(NO_ROOM_PAUSE, AGAIN * 2.0**batch.tries))
        if kind == "overloaded":  # by itself each job would cost twice as much: it can wait
            values["tries"] = max(1, batch.tries - 1)
        # A connection that was lost may have brought it there all the same.
        is_untaken = known and known.unbilled and kind != "unknown_outcome"
        if not (kind in REFUSED_NOW or is_untaken):
            return Step({**values, "next_step_at": self._after(wait)})  # it is looked for then
        if kind in REFUSED_NOW:
            # Only of batches: a key may have the right to single calls and not to these.
            wait = wait if known.retry_after else NO_ROOM_PAUSE
            values["pauses_until"] = self._after(wait)
            values["tries"] = max(0, batch.tries - 1)  # it was not taken, that is sure
        return Step({**values, "state": "collected", "next_step_at": self._after(wait)})

    @api.model
    def _known_error(self, batch, error):
        """Return an error as it is known, what is noted of it, and when to go on, in seconds."""
        key = batch.provider_id._told_key()
        if (known := classify(error)) is None:
            told = traceback_of(error, key)
            _logger.error("The step of batch %s failed\n%s", batch.id, told)
        words = redact(self.env._(text_of(known)) if known else type(error).__name__, key)
        values = {
            "error_type": known.error_type if known else "internal",
            "error_message": words,
        }
        return known, values, max(AGAIN, believable(known and known.retry_after))

    @api.model
    def _is_too_old(self, batch):
        began = batch.submitted_at or batch.tried_at
        return bool(began and began + LONGEST < self._now())

    # === OTHERS === #

    def _hold_queues(self):
        # The original asks about them, and a copy must not cancel them.
        for batch in self.env[BATCH].search([("next_step_at", "!=", False)]):
            self._return_jobs(batch)
            ended = {"state": "failed", "next_step_at": False, "leased_until": False}
            copied = self.env._(
                "This database was copied while the provider had the batch. The original stores"
                " what it brings."
            )
            batch.write({**ended, "ended_at": self._now(), "error_message": copied})
        return super()._hold_queues()

    @api.model
    def _cancel_all_batches(self):
        """Have providers cancel what nobody will store, for a minute at most."""
        latest = time.monotonic() + UNINSTALL_SECONDS
        for batch in self.env[BATCH].search([("state", "=", "running")]):
            if time.monotonic() > latest:
                _logger.warning("Batch %s of %s goes on", batch.external_id, batch.display_name)
            else:
                self._cancel_batch(batch)

    @api.model
    def _clean_up(self, days=None, seconds=float("inf")):
        result = super()._clean_up(days, seconds)
        with self._transaction() as own:
            own._change(sql.OLD_PROVIDER_BATCHES, [own._kept_since(days)], touches=[BATCH])
        return result
