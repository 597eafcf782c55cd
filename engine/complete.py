import contextlib
import itertools
import json
import logging
import re
import time
from collections import defaultdict
from dataclasses import replace
from datetime import timedelta

import psycopg2

from odoo import api, fields, models

from .. import exceptions
from ..const import ACTIVE_STATES
from ..protocol import backoff
from ..protocol.answer import Answer
from ..protocol.http_errors import traceback_of
from ..protocol.sanitize import ANSWER_LIMIT, redact
from ..protocol.tokens import by_length, length_of
from ..runner.cursor import LAST_LOCK_TIMEOUT, LOCK_TIMEOUT, is_away, is_locked
from ..runner.limits import PATIENCE
from ..runner.messages import Due
from . import sql

_logger = logging.getLogger(__name__)

#: Seconds until an external job is asked about for the first time, and at most.
FIRST_POLL, LAST_POLL = 1.0, 30.0
UNSTORED = "The answer of job %s cannot be stored\n%s"
#: Ends of a job which say nothing about its work at the provider. Nobody comes back for that.
LEFT_AT_PROVIDER = ("access", "bad_request", "internal")
#: Characters of what a provider said that the pages of its queue tell.
STOPPED_WORDS = 300
#: What is refused of one model, if its name is told.
BY_MODEL = ("rate_limited", "authentication")
#: The kind of activity by which managers are asked to do something about a queue.
TODO = "mail.mail_activity_data_todo"

#: Errors of a statement that leave the transaction as it was before it, and pass.
IN_THE_WAY = (
    psycopg2.errors.DeadlockDetected,
    psycopg2.errors.LockNotAvailable,
    psycopg2.errors.QueryCanceled,
)


class LlmGenerationEngine(models.AbstractModel):
    """Applies what a provider answered, once, and only for the attempt that still counts."""

    _inherit = "llm.generation.engine"

    @api.model
    def _fence(self, claims, held=None):
        """Return the jobs, locked, of those claims whose attempt may still end its job.

        An attempt that was rescued, cancelled or timed out meanwhile has been overtaken: what it
        brings is thrown away.

        :param list held: gets the claims on jobs that somebody else is changing just now; None
            waits for them, as long as that takes
        """
        params = [[claim.job_id for claim in claims], [claim.token for claim in claims]]
        free, all_of_them = self._fence_statements()
        rows = self._select(all_of_them if held is None else free, params)
        found = {row[0] for row in rows}
        late = [claim for claim in claims if claim.job_id not in found]
        if late and held is not None:
            busy = {row[0] for row in self._select(sql.STILL_COUNT, params)} - found
            held += [claim for claim in late if claim.job_id in busy]
            late = [claim for claim in late if claim.job_id not in busy]
        for claim in late:
            _logger.info("Job %s: the attempt was overtaken", claim.job_id)
        # sudo: the engine ends jobs, whoever owns them.
        jobs = self.env["llm.generation.job"].sudo().browse(row[0] for row in rows)
        jobs.invalidate_recordset()
        if rows:
            self._remember(jobs._name, {row[0]: row[1:] for row in rows})
        return jobs

    @api.model
    def _apply(self, pairs, held=None):
        """Apply answers within the current transaction.

        :param pairs: `(claim, answer)` tuples
        :param list held: see `_fence()`; what is held is left alone
        :return: how many of them still counted
        """
        jobs = self._fence([claim for claim, _answer in pairs], held)
        tokens = {job.id: job.attempt_token for job in jobs}
        late = [pair for pair in pairs if tokens.get(pair[0].job_id) != pair[0].token]
        answers = {claim.job_id: answer for claim, answer in pairs if (claim, answer) not in late}
        answers = self._with_known_messages(jobs, answers)
        for job in jobs:
            answer = answers[job.id]
            if answer.pause:
                # Headers of an answer tell the allowance of its model; a full disk is everybody's.
                model = None if answer.scope == "account" else job.model_id
                words = answer.error_message
                self._pause(self._queue_of(job), answer.pause, model=model, words=words)
        completed = jobs.filtered(lambda job: answers[job.id].state == "completed")
        self._apply_success(completed, answers)
        for job in jobs - completed:
            answer = answers[job.id]
            values = self._values_of(job, answer)
            if answer.state in {"queued", "running"}:
                self._keep_running(job, answer, values)
            elif answer.state == "cancelled":
                job._set_state("cancelled", call_ended=True, **values, error_type="cancelled")
            else:
                self._apply_failure(job, answer, values)
        self._settle_tokens(jobs, answers)  # after the queue's row, in the order of a claim
        told = defaultdict(list)
        for job_id, answer in answers.items():
            told[str(answer)].append(f"{job_id} (attempt {tokens[job_id]})")
        for outcome, which in told.items():
            _logger.info("%s: job %s", outcome.capitalize(), ", ".join(which))
        late = [pair for pair in late if pair[0] not in (held or ())]
        for claim, answer in late:
            self._note_late(claim, answer)
        # What the provider runs under an id goes on.
        ended = [claim for claim, answer in late if answer.state not in {"queued", "running"}]
        if ended:
            self._release_slots([claim.token for claim in ended])
        return len(jobs)

    @api.model
    def _note_late(self, claim, answer):
        """Keep what an attempt that was overtaken has left behind.

        The id of its external job, so that it can be ended, and what it used: it is paid for. Half
        an answer is marked here, once it grows no more: who cancels would wait for who writes it.
        """
        # sudo: as above.
        job = self.env["llm.generation.job"].sudo().browse(claim.job_id).exists()
        if job.state == "cancelled":
            job._mark_half_answers()
        touches = ["llm.generation.job", "llm.generation.attempt"]
        params = {"job": claim.job_id, "token": claim.token}
        used = {f"{kind}_tokens": answer.tokens(kind) for kind in ("prompt", "completion")}
        if any(used.values()):
            self._change(sql.LATE_USAGE, {**params, **used}, touches=touches)
            self._after_late_usage(claim)
        if answer.external_job_id:
            data = json.dumps(answer.provider_data) if answer.provider_data else None
            params |= {"external": answer.external_job_id, "data": data}
            self._change(sql.LATE_EXTERNAL, params, touches=touches)

    @api.model
    def _after_late_usage(self, claim):
        """Hook: an attempt that was overtaken told what it used, which its job has noted now.

        :param claim: the claim of the attempt: `job_id`, `token`
        """

    @api.model
    def _after_lost_answers(self, tokens):
        """Hook: answers came, and are paid for, that no attempt of their jobs had asked for.

        :param dict tokens: how many each used, by the id of its job, which may be gone
        """

    @api.model
    def _with_known_messages(self, jobs, answers):
        """Return the answers without messages that are none of their job's thread.

        Where an answer does not tell what it used, that follows from its length.
        """
        ids = {answer.output_message_id for answer in answers.values() if answer.output_message_id}
        if not (ids or any(answer.output for answer in answers.values())):
            return answers
        # sudo: a provider may name any message, and only its place and its length are looked at.
        messages = jobs.output_message_id.sudo().browse(ids).exists()
        places = {message.id: (message.model, message.res_id) for message in messages}
        known = {}
        for job in jobs:
            answer = known[job.id] = answers[job.id]
            if places.get(answer.output_message_id) != ("llm.thread", job.thread_id.id):
                answer = known[job.id] = replace(answer, output_message_id=None)
                if not answer.output:
                    continue
            elif not (job.post or answer.state in ACTIVE_STATES):
                message = messages.browse(answer.output_message_id)
                text = answer.output or message._said()
                answer = known[job.id] = replace(answer, output=text, output_message_id=None)
                message.unlink()
            if not (answer.tokens("prompt") or answer.tokens("completion")):  # nobody tells
                said = answer.output or messages.browse(answer.output_message_id).body
                asked = [job.generation_inputs, job.input_message_id.body]
                texts = {"prompt_tokens": asked, "completion_tokens": said}
                usage = {kind: by_length(length_of(text)) for kind, text in texts.items()}
                known[job.id] = replace(answer, usage=usage)
        return known

    @api.model
    def _apply_success(self, jobs, answers):
        working = {"providers": jobs.provider_id.ids, "models": jobs.model_id.ids}
        for job in jobs:
            if values := self._values_of(job, answers[job.id]):
                job.write(values)
        # One move for all of them: what follows from it costs the same for one as for many.
        done = {"progress": 100.0, "error_type": False, "error_message": False}
        jobs._set_state("completed", call_ended=True, **done)
        if jobs:
            touches = ["llm.generation.queue"]
            self._change(sql.PROVIDERS_WORK, working, touches=touches)

    @api.model
    def _values_of(self, job, answer):
        """Return what an answer says, as values of the job; what it does not say stays."""
        values = {
            "provider_data": answer.provider_data,
            "output_message_id": answer.output_message_id,
            "output": None if job.post else (answer.output or "")[:ANSWER_LIMIT],
            "external_job_id": answer.external_job_id,
            "progress": answer.progress,
            "prompt_tokens": answer.tokens("prompt"),
            "completion_tokens": answer.tokens("completion"),
            "error_message": answer.error_message,
            "finish_reason": answer.finish_reason,
        }
        return {name: value for name, value in values.items() if value}

    @api.model
    def _keep_running(self, job, answer, values):
        """Note where an external job is, and when to ask again."""
        polls = 0 if answer.external_job_id else job.poll_count + 1
        wait = min(LAST_POLL, FIRST_POLL * 1.5 ** min(polls, 50))
        if answer.poll_after:
            wait = min(answer.poll_after, backoff.ODD_DELAY)  # its result may not be kept for ever
        now = self.env.cr.now().replace(microsecond=0)  # what is due now must not come too late
        next_poll_at = now + timedelta(seconds=wait)
        if job.poll_requested:  # a webhook came while we asked, or before the job had its id
            next_poll_at = max(now, job.hinted_at or now)
        values |= {
            "next_poll_at": next_poll_at,
            "poll_count": polls,
            "asked_at": now,
            "polled_until": False,
        }
        values.pop("error_message", None)
        if answer.expires_in:
            values["result_expires_at"] = now + timedelta(seconds=answer.expires_in)
        job.write(values)
        if answer.external_job_id:
            # From here on the provider runs it, and any process may ask about it.
            attempt = self.env["llm.generation.attempt"].browse(job.attempt_token)
            attempt.write({"runner_id": False, "external_job_id": answer.external_job_id})
        self._notify(job)

    @api.model
    def _apply_failure(self, job, answer, values):
        queue, scope = self._queue_of(job), self._scope_of(job, answer)
        decision = self._decide(job, queue, answer, scope)
        values = {"error_message": False, **values, "error_type": answer.error_type}
        if answer.retry_after and backoff.is_odd(answer.retry_after):
            odd = self._speaking_to(job.user_id).env._(
                "The provider asked for a wait of %s days. That is taken for a mistake, and it is"
                " asked again after an hour.",
                int(answer.retry_after / 86400),
            )
            values["error_message"] = " ".join(filter(None, (values["error_message"], odd)))
        if decision.pause:
            model = job.model_id if scope == "model" else None
            self._pause(queue, decision.pause, answer.error_type, model, answer.error_message)
        if decision.action == "snooze":
            # A pause of the queue holds it, too. Who waits for a thread has called nobody: it keeps
            # its place.
            if answer.error_type != "busy":
                self._change(sql.TAKE_NEW_TURN, [job.id])
            self._snooze(job, decision.delay, call_ended=True, **values)
            return
        goes_on = answer.error_type == "access" and bool(job.external_job_id)
        if job.external_job_id and answer.error_type in LEFT_AT_PROVIDER:
            values["cancel_requested"] = True  # nobody gets what the provider still works on
        values |= self._retry_values(decision)
        job._set_state("failed", call_ended=not goes_on, **values)

    @api.model
    def _scope_of(self, job, answer):
        """Return whose fault a failure is, one of `exceptions.SCOPES`; None for that of its type.

        The words of an unknown service may not tell it. What names the job's model is about that,
        and an account that has served others since it refused this very job is in order.
        """
        if answer.scope not in {None, "account"}:
            return answer.scope
        if answer.error_type in BY_MODEL and job.model_id.name:
            name = rf"(?<![\w.-]){re.escape(job.model_id.name)}(?!\w)"
            if re.search(name, answer.error_message or ""):
                return "model"
        is_refused = answer.error_type in {"authentication", "quota"}
        if is_refused and self._has_worked_since_refusal(job, answer.error_type):
            return "request"
        return answer.scope

    @api.model
    def _has_worked_since_refusal(self, job, error_type):
        refused = job.attempt_ids.filtered(lambda one: one.error_type == error_type)
        return bool(refused) and bool(
            job.search_count(
                [
                    ("provider_id", "=", job.provider_id.id),
                    ("state", "=", "completed"),
                    ("completed_at", ">", max(refused.mapped("ended_at"))),
                ],
                limit=1,
            )
        )

    @api.model
    def _decide(self, job, queue, answer, scope=None):
        return backoff.decide(
            answer.error_type,
            scope=scope,
            unbilled=answer.unbilled,
            retry_count=job.retry_count,
            max_retries=job.max_retries,
            snooze_count=max(0, job.attempt_count - job.attempt_base - 1 - job.retry_count),
            retry_after=answer.retry_after,
            base_delay=queue.retry_delay_minutes * 60,
            auto_retry=queue.auto_retry_failed,
        )

    @api.model
    def _retry_values(self, decision):
        if decision.action != "retry":
            return {}
        return {"retry_at": self._after(decision.delay)}

    @api.model
    def _snooze(self, job, delay=0.0, **values):
        """Let a running job wait again, in the place that it has, for at least `delay` seconds."""
        until = self._after(delay) if delay else False
        job._set_state(
            "queued", external_job_id=False, scheduled_at=until, is_scheduled=bool(until), **values
        )

    @api.model
    def _after(self, seconds):
        """Return the moment after a wait, by the clock that decides when it is over.

        To the full second it would come too early.
        """
        return self.env.cr.now() + timedelta(seconds=seconds)

    @api.model
    def _queue_of(self, job):
        return self.env["llm.generation.queue"]._get_or_create_queue(job.provider_id)

    @api.model
    def _pause(self, queue, seconds, error_type=None, model=None, words=None):
        """Start nothing of the queue for a while; a longer pause is never shortened.

        :param model: a record of `llm.model`, which alone pauses
        :param str words: what the provider said
        """
        words = redact(words)[:STOPPED_WORDS] if words else None
        refusal = error_type if error_type in backoff.REFUSALS else None
        until = self._after(backoff.believable(seconds))
        if model:
            params = {"queue": queue.id, "model": model.id, "until": until}
            params |= {"refusal": refusal, "words": words}
            ((known,),) = self._change(
                sql.PAUSE_MODEL, params, touches=["llm.generation.model.pause"]
            )
            self._wake(Due())  # its end is due by time
            if refusal and known != refusal:
                self._tell_of_refusal(queue, refusal, model)
            return
        values = {}
        if not queue.paused_until or queue.paused_until < until:
            values["paused_until"] = until
            self._wake(Due())  # as above
        if refusal and queue.refused_by != refusal:
            values["refused_by"] = refusal
            self._tell_of_refusal(queue, refusal)
        if values:
            now = fields.Datetime.now()
            is_known = queue.refused_by or (queue.paused_until and queue.paused_until > now)
            values["stopped_since"] = (is_known and queue.stopped_since) or now
            values["stopped_words"] = words or (is_known and queue.stopped_words)
            # sudo: what a provider brings about is written by no user.
            queue.sudo().write(values)

    @api.model
    def _settle_tokens(self, jobs, answers):
        """Put what jobs really used in the place of what was estimated."""
        differences = defaultdict(int)
        for job in jobs:
            used = answers[job.id].tokens("prompt") + answers[job.id].tokens("completion")
            if used and job.estimated_tokens:
                differences[job.provider_id.id] += job.estimated_tokens - used
        for provider_id, difference in sorted(differences.items()):  # as every other batch
            params = {"difference": difference, "provider": provider_id}
            self._change(sql.SETTLE_BUCKET, params, touches=())

    @api.model
    def _tell_of_refusal(self, queue, refusal, model=None):
        def words(env):
            what = dict(queue._fields["refused_by"]._description_selection(env))[refusal]
            if model:
                return env._(
                    "The provider refuses the model %(model)s: %(what)s",
                    model=model.name,
                    what=what,
                ), env._(
                    "Jobs of this model wait, others go on. Check what the API key may use, then"
                    " press Try Again Now."
                )
            return env._("The provider refuses our account: %s", what), env._(
                "The queue waits and keeps its jobs. Check the API key and the credit of the"
                " account, then press Try Again Now."
            )

        self._tell_managers(queue, words)

    @api.model
    def _tell_managers(self, queue, words):
        """Give each manager of the queue one activity, unless it is there: it needs a human.

        :param words: function of an environment that returns its summary and its note
        """
        # Those, too, who have the right by another group.
        for manager in self.env.ref("llm.group_llm_manager").all_user_ids.filtered("active"):
            companies = {"allowed_company_ids": manager.company_ids.ids}
            seen = queue.with_user(manager).with_context(**companies)
            if manager._is_superuser() or not seen.has_access("read"):
                continue
            summary, note = words(self._speaking_to(manager).env)
            told = {"user_id": manager.id, "additional_domain": [("summary", "=", summary)]}
            if not queue.activity_search([TODO], **told):
                queue.activity_schedule(TODO, user_id=manager.id, summary=summary, note=note)

    # === STORE === #
    # Stores what providers answered, whatever stands in the way: the answers are paid for.

    def _complete_or_fail(self, claim, answer, *, polling, execution=None):
        """Apply an answer; fail the job when it, or what the provider wrote, cannot be stored.

        :param Execution execution: see `_execute()`
        """
        self.env.cr.bind()
        try:
            self._complete([(claim, answer)], polling=polling, execution=execution)
        except BaseException as error:
            if is_away(error):
                raise
            self.env.cr.rollback()
            _logger.error(UNSTORED, claim.job_id, traceback_of(error))  # noqa: TRY400 it is redacted
            self._complete([(claim, self._unstorable(answer))])

    @api.model
    def _unstorable(self, answer):
        """Return what is stored in the place of an answer that cannot be: it is paid for."""
        return Answer("failed", error_type="internal", usage=answer.usage)

    def _complete(self, pairs, *, polling=False, held=None, execution=None):
        """Apply answers and commit; wait for a database that is away: the answers are paid for.

        :param pairs: `(claim, answer)` tuples
        :param bool polling: the provider can be asked for these answers again
        :param list held: see `_fence()`; what meets another locked row is raised then
        :param Execution execution: see `_execute()`
        """
        for pause in (*PATIENCE, None):
            has_writes = self.env.cr.in_transaction
            if execution:
                pairs = self._last_try(pairs, time.monotonic() >= execution.last_from)
            try:
                self._apply_and_commit(pairs, held)
                return
            except psycopg2.Error as error:
                if pause is None or not is_away(error) or (is_locked(error) and held is not None):
                    raise
                if held:
                    held.clear()
                if has_writes and isinstance(error, IN_THE_WAY):
                    time.sleep(pause)  # what the provider's code wrote is still there
                    continue
                with contextlib.suppress(psycopg2.Error):
                    self.env.cr.rollback()
                _logger.warning("The database is away (%s), answers wait", type(error).__name__)
                if has_writes:  # what the provider's code wrote is gone with the transaction
                    lost = exceptions.UnknownOutcomeError("The database went away with the answer.")
                    lost = Answer("running") if polling else Answer.from_error(lost)
                    pairs = [(claim, replace(lost, usage=answer.usage)) for claim, answer in pairs]
                time.sleep(pause)

    def _last_try(self, pairs, is_last):
        """Return what is stored of answers now, without what locked rows may keep back any more.

        :param bool is_last: whether nobody will try again
        """
        self.env.cr.sets_aside = not is_last
        if not is_last:
            return pairs
        return [(claim, replace(answer, pause=None)) for claim, answer in pairs]

    def _apply_and_commit(self, pairs, held):
        if self.env.cr.in_transaction:
            with self.env.cr.savepoint():
                counted = self._apply(pairs, held)
            if not counted:
                # What an overtaken attempt wrote must not be seen.
                self.env.cr.rollback()
                self._apply(pairs)
        else:
            self._apply(pairs, held)
        self.env.cr.commit()  # pylint: disable=invalid-commit

    @api.model
    def _complete_batch(self, pairs, *, lent=False, is_last=False):
        """Store the answers of many jobs; one that cannot be stored does not hold up the rest.

        :param bool lent: see `_transaction()`
        :param bool is_last: whether nobody tries again what meets a locked row: it is stored
            without what follows from it
        :return: the pairs that are to be stored later: somebody is changing their jobs just now,
            or what has to be changed with them, or the database is away
        """
        held = []
        try:
            with self._transaction(lazy=True, lent=lent) as call:
                call.env.cr.bind(LAST_LOCK_TIMEOUT if is_last else LOCK_TIMEOUT)
                call._complete(call._last_try(pairs, is_last), held=held)
        except BaseException as error:  # noqa: BLE001 whatever it is, the rest goes on
            if len(pairs) > 1 and (is_locked(error) or not is_away(error)):
                late = (self._complete_batch([pair], lent=lent, is_last=is_last) for pair in pairs)
                return list(itertools.chain.from_iterable(late))
            if is_away(error):  # or a row is locked
                return pairs
            [(claim, answer)] = pairs
            _logger.error(UNSTORED, claim.job_id, traceback_of(error))  # noqa: TRY400 it is redacted
            if answer.error_type == "internal":
                return []
            return self._complete_batch([(claim, self._unstorable(answer))], lent=lent)
        return [pair for pair in pairs if pair[0] in held]
