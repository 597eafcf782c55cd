import contextlib
import logging
import time
from dataclasses import replace

import psycopg2

from odoo import api, models
from odoo.exceptions import AccessError, MissingError, UserError
from odoo.fields import Domain

from .. import exceptions
from ..protocol import bounded_http
from ..protocol.answer import Answer, job_id_of, total
from ..protocol.http_errors import classify, traceback_of
from ..protocol.sanitize import redact, sanitize_json
from ..runner import thread_lock
from ..runner.cursor import is_away
from ..runner.executor import CallRecorder, is_uninstalled
from . import sql

_logger = logging.getLogger(__name__)

TOOL_LOST = (
    "The outcome is unknown: the tool was interrupted, and may have done its work. Look before you"
    " call it again."
)
TOOL_NOT_CALLED = (
    "The tool was not called: the answer was interrupted before. Call it again if it is needed."
)
#: Seconds that a provider has to say the id of a job that is cancelled while it is submitted:
#: without it nobody could stop what it may have begun.
SUBMIT_PATIENCE = 5.0
#: Errors by which an answer about a job tells that this has ended; another one is the question's.
ENDS_THERE = frozenset({"bad_request", "content_refused", "provider_failed", "cancelled"})
#: Seconds within which a service that hangs up without a byte has surely done nothing.
SURELY_IDLE = 5.0
#: Tokens after which it is noted how many there were, as nobody tells if the process is killed.
NOTED_TOKENS = 500
#: Seconds until a job is tried again whose thread is busy with an answer that no job writes;
#: the end of one that a job writes is noticed at once.
BUSY_DELAY = 5.0
#: Seconds for which what was read counts while an answer is written: rights are withdrawn, and
#: threads change hands. A direct answer reads everything once.
BELIEVED = 10.0
#: Events after which more of the same message follows.
GROWTH = {"message_create", "message_chunk"}


class OvertakenError(Exception):
    """The attempt no longer counts: the job was cancelled, timed out or rescued."""


class ThreadBusyError(Exception):
    """Another answer is being written into the thread."""


class LlmGenerationEngine(models.AbstractModel):
    """Talks to the provider about one claimed job. No transaction is open while it waits."""

    _inherit = "llm.generation.engine"

    @api.model
    def _run(self, job_context, **how):
        """Run a claimed job: submit it, or generate directly, and apply the outcome.

        :param how: see `_execute()`
        """
        self._execute(job_context, "_submit", **how)

    @api.model
    def _poll(self, job_context, **how):
        """Ask the provider about an external job and apply its answer.

        :param how: see `_execute()`
        :return: the provider's dict, False when the question failed
        """
        return self._execute(job_context, "_ask", **how)

    @api.model
    def _execute(self, job_context, talk, *, execution=None, complete=None, lent=False):
        """Speak with the provider, then apply its answer.

        :param str talk: the method that speaks, `_submit` or `_ask`
        :param Execution execution: by which others hang up on the call, None where nobody does
        :param complete: called with the claim and the answer where nothing is to be committed with
            it, to have it stored soon; None has it stored here
        :param bool lent: see `_transaction()`
        :return: what the provider said, False on an error
        """
        raw, claim, told = False, job_context.claim, {}
        recorder = CallRecorder(is_repeatable=talk == "_ask")
        recorder.execution = execution
        heard_by = bounded_http.hung_up_by(execution and execution.on_response)
        with self._transaction(lazy=True, lent=lent) as call, heard_by:
            call.env.cr.is_patient = True  # the provider's code would take it for its own error
            try:
                answer, raw = call._heard(job_context, talk, recorder, execution)
                told = answer.usage
                call.env.flush_all()  # what was written goes with the answer, or not at all
            except OvertakenError:
                call.env.cr.rollback()
                # It counts no longer, but its slot does, until this is stored.
                answer = Answer("cancelled", error_type="cancelled")
            except BaseException as error:  # noqa: BLE001 whatever is raised ends its job only
                call.env.cr.rollback()
                if is_uninstalled(call.env.cr.dbname):
                    _logger.info("Job %s is gone: its module was uninstalled", claim.job_id)
                    return False
                key = call._key_of(job_context)
                told_by = {"polling": talk == "_ask", "recorder": recorder, "key": key}
                lang = job_context.context.get("lang")
                answer = call.with_context(lang=lang)._answer_of(error, claim, **told_by)
                answer = answer.redacted(key)
            call.env.cr.is_patient = False
            answer = replace(
                answer,
                pause=answer.pause or (execution and execution.pause),
                usage=answer.usage or told or recorder.usage,
                finish_reason=answer.finish_reason or recorder.finish_reason,
                # A job that was submitted may run there, whatever became of the connection; and
                # one that was cut while it was silent for long was at work.
                unbilled=answer.unbilled
                and not recorder.has_heard
                and (
                    answer.error_type != "unknown_outcome"
                    or time.monotonic() - recorder.asked_at < SURELY_IDLE
                ),
            )
            if complete and not call.env.cr.in_transaction:
                complete(claim, answer)
            else:
                how = {"polling": talk == "_ask", "execution": execution}
                call._complete_or_fail(claim, answer, **how)
        return raw

    # === TALK === #

    @api.model
    def _heard(self, job_context, talk, recorder, execution):
        """Return the answer, and what the provider said, without its key."""
        job = self._recall(job_context, recorder, execution)
        provider = job.provider_id  # later the job would have to be read anew for it
        answer, raw = getattr(self, talk)(job, job_context, recorder)
        answer = answer.with_written(recorder.written)
        key = provider._told_key() or (answer.error_message and self._key_of(job_context))
        return answer.redacted(key), sanitize_json(raw, key, hides_names=True)

    @api.model
    def _submit(self, job, job_context, recorder):
        """Hand the job to its provider, or generate directly where that runs no jobs."""
        if job_context.earlier_job:
            self._end_earlier_try(job, job_context.earlier_job)
        execution = recorder.execution
        if execution and job.provider_id._implements("create_generation_job"):
            execution.patience = SUBMIT_PATIENCE
        try:
            with recorder.answering(job):
                result = job.provider_id.create_generation_job(job)
        except exceptions.NoJobInterfaceError:
            recorder.error = None
            if execution:
                execution.patience = 0.0
            return self._generate(job, job_context.claim, recorder), False
        if isinstance(result, dict):
            answer = Answer.from_dict(result)
            if answer.external_job_id or answer.state not in {"queued", "running"}:
                return answer, result
        elif result:
            return Answer("running", external_job_id=job_id_of(result)), result
        raise exceptions.ProviderFailedError(
            job.env._("The provider accepted the job without an id.")
        )

    @api.model
    def _end_earlier_try(self, job, earlier):
        """Cancel what the attempt before may have left running: nobody pays for both.

        :param str earlier: the provider's id of it
        """
        field = job._fields["external_job_id"]
        field._update_cache(job, earlier)  # that is where providers look
        try:
            job.provider_id.cancel_generation_job(job)
        except BaseException as error:  # noqa: BLE001 what it was worth trying for comes anyway
            trace = traceback_of(error, job.provider_id._told_key())
            self.env.cr.rollback()
            _logger.warning("Job %s: its earlier try was not cancelled\n%s", job.id, trace)
        field._update_cache(job, None)

    @api.model
    def _ask(self, job, _job_context, recorder):
        try:
            with recorder.answering(job):
                result = job.provider_id.check_generation_job_status(job)
        except exceptions.NoJobInterfaceError:
            gone = job.env._("What asks this service about its jobs is no longer installed.")
            raise exceptions.ProviderFailedError(gone) from None
        return Answer.from_dict(result), result

    @api.model
    def _generate(self, job, claim, recorder):
        """Generate in the thread, as the provider's users did before there was a queue."""
        if not job._is_media():
            recorder.inputs, recorder.limit = job._told_inputs()
        self.env.cr.keeps, recorder.away = True, self.env.cr.away
        if not job.post:
            return self._answer_without_messages(job, claim, recorder)
        thread = job.thread_id
        with thread_lock.hold(self.env.cr.dbname, thread.id) as unlock:
            if not unlock:
                raise ThreadBusyError
            self._forget_partial_answer(job, claim)
            self._put_question(job, claim)
            try:
                return self._relay(job, claim, recorder)
            except UserError as error:
                began = recorder.has_asked or job.output_message_id
                if recorder.has_heard or (began and error is not recorder.error):
                    # It broke off, or answered with an error.
                    raise self._broken_off(error) from error
                if recorder.has_asked:
                    raise
                # Some of the family take the lock themselves, and find ours.
                unlock()
                self.env.cr.rollback()
            try:
                return self._relay(job, claim, recorder)
            except UserError:
                if not job.output_message_id and thread_lock.is_taken(
                    self.env.cr.dbname, thread.id
                ):
                    raise ThreadBusyError from None
                raise

    @api.model
    def _answer_without_messages(self, job, claim, recorder):
        """Ask besides the conversation: nothing is posted, and no other answer has to wait."""
        messages = job._asked_messages()
        # The family's prompts may post a note where they are broken.
        self.env.cr.commit(goes_on=True)  # pylint: disable=invalid-commit
        return Answer("completed", output=self._ask_chat(job, claim, recorder, messages))

    @api.model
    def _ask_chat(self, job, claim, recorder, messages):
        """Return what the provider answers to messages; of half an answer nothing is kept.

        :param list messages: dicts of `role` and `content`
        :raise GenerationError: where it breaks off, or has nothing to say
        """
        try:
            text = "".join(self._words(job, claim, recorder, messages))
        except UserError as error:
            if recorder.has_heard:
                raise self._broken_off(error) from error
            raise
        if not text.strip():
            raise recorder.error or exceptions.ProviderFailedError(self._nothing(job))
        return text

    @api.model
    def _broken_off(self, error):
        """Return what a refusal means that came amid an answer: it is no fault of the request."""
        return classify(error) or exceptions.ProviderFailedError(str(error))

    @api.model
    def _words(self, job, claim, recorder, messages):
        with contextlib.closing(job._chat(messages)) as chunks:
            for chunk in chunks:
                if chunk.get("error"):
                    raise exceptions.ProviderFailedError(str(chunk["error"]))
                yield chunk.get("content") or ""
                if self._is_noteworthy(recorder):
                    self._keep(job, claim, None, recorder, goes_on=True)

    @api.model
    def _nothing(self, job):
        return job.env._("The model answered nothing. Ask in other words, or try again.")

    @api.model
    def _relay(self, job, claim, recorder):
        """Run the thread's own generator, committing after each event it yields."""
        usages, read_at = {}, time.monotonic()
        output = newest = job.output_message_id.id
        with contextlib.closing(job._direct_events()) as events:
            for event in events:
                message = event.get("message") or {}
                if event.get("usage"):
                    usages[message.get("id")] = event["usage"]
                if message.get("id") and message.get("llm_role") == "assistant":
                    newest = message["id"]
                    output = output if self._tells_why_not(job, output, newest) else newest
                # A tool that speaks within its savepoint would not find it after a commit. What
                # tells an error goes at the end, unless the thread goes on: the job tells it, too.
                if not (self.env.cr.in_savepoint or newest != output):
                    # A tool, and what comes after the answer, sees what others did meanwhile.
                    goes_on = message.get("llm_role") == "assistant"
                    goes_on = goes_on and event.get("type") in GROWTH
                    goes_on = goes_on and time.monotonic() < read_at + BELIEVED
                    read_at = read_at if goes_on else time.monotonic()
                    self._keep(job, claim, output, recorder, goes_on=goes_on)
                if event.get("type") == "error":
                    raise exceptions.ProviderFailedError(str(event.get("error") or ""))
        self._raise_what_was_swallowed(job, claim, (output, newest), recorder)
        told = {} if recorder.has_asked else total(usages.values())
        return Answer("completed", output_message_id=output or None, usage=told)

    @api.model
    def _tells_why_not(self, job, output, newest):
        """Return whether a message only tells why there is no answer, or no more of it."""
        return newest != output and job.output_message_id.browse(newest).is_error

    @api.model
    def _keep(self, job, claim, output, recorder, *, goes_on=False):
        # Where nothing was written there is nothing to keep: who ends the job tells of its end.
        is_noteworthy = self._is_noteworthy(recorder)
        if is_noteworthy or self._has_written():
            self._checkpoint(job, claim, output)
        if is_noteworthy:  # this process may be killed
            recorder.noted = sum(recorder.usage.values())
            self.env["llm.generation.attempt"].browse(claim.token).write(recorder.usage)
        self.env.cr.commit(goes_on=goes_on)  # pylint: disable=invalid-commit

    @api.model
    def _has_written(self):
        pending = self.env.transaction
        is_pending = any(pending.field_dirty.values()) or any(pending.tocompute.values())
        return self.env.cr.in_transaction or is_pending

    @api.model
    def _raise_what_was_swallowed(self, job, claim, messages, recorder):
        """Raise what the code of a thread has turned into a message, and went on.

        :param messages: the ids of the answer so far, and of the newest message of the model
        :raise Exception: what the newest call of the provider raised
        :raise ProviderFailedError: where the answer itself says that it is an error, or is none
        """
        answer, newest = (job.output_message_id.browse(one or ()) for one in messages)
        if newest.is_error:
            error = exceptions.ProviderFailedError(newest._said())
            if newest != answer:
                newest.sudo().unlink()  # sudo: its author is nobody
                self._keep(job, claim, answer.id, recorder)
            raise recorder.error or error
        says_nothing = answer._tool_calls() and not answer._said().strip()
        if recorder.has_asked and (not answer or says_nothing):
            raise recorder.error or exceptions.ProviderFailedError(self._nothing(job))

    @api.model
    def _checkpoint(self, job, claim, output):
        """Keep what came so far, and tell those who wait.

        :raise OvertakenError: when the attempt no longer counts: nothing more is posted
        """
        known = self._lock_job(claim)
        locked = self.env["llm.generation.job"].browse(claim.job_id)
        if output and known != output:
            locked.output_message_id = output
        self._notify(locked)

    @api.model
    def _lock_job(self, claim):
        """Lock the job of an attempt that still counts, and return the id of its answer so far.

        Nothing is flushed before, see `LOCK_JOB`.

        :raise OvertakenError: when it no longer counts
        """
        self.env.cr.execute(sql.LOCK_JOB, [claim.job_id, claim.token])
        row = self.env.cr.fetchone()
        if not row:
            _logger.info("Job %s: the attempt was overtaken", claim.job_id)
            raise OvertakenError
        return row[0]

    @api.model
    def _is_noteworthy(self, recorder):
        """Return whether so much was used since that was noted that it is noted again."""
        return sum(recorder.usage.values()) >= recorder.noted + NOTED_TOKENS

    @api.model
    def _forget_partial_answer(self, job, claim):
        """Remove what an attempt left behind that broke in the middle of its answer.

        A turn that called tools stays: they are not called again.
        """
        partial = job.sudo().output_message_id  # sudo: the answer's author is nobody
        turn = partial if partial._tool_calls() else self._last_turn(job, partial)
        lost = self._lost_calls(turn)
        if not (lost or partial - turn) or not self._fence([claim]):
            return
        (partial - turn).unlink()
        for call, message, sentence in lost:
            self._answer_lost_call(job, turn, call, message, sentence)
        self.env.cr.commit()  # pylint: disable=invalid-commit

    @api.model
    def _last_turn(self, job, half):
        """Return the newest answer of a thread with tools, whichever job it is of.

        A job that was cancelled, too, may have left calls that did not come back.
        """
        messages = job.output_message_id.browse()
        if not job.thread_id.tool_ids:
            return messages
        said = Domain("llm_role", "=", "assistant") & Domain("is_error", "=", False)
        return messages._search_in(job.thread_id.id, said & Domain("id", "not in", half.ids), 1)

    @api.model
    def _lost_calls(self, turn):
        """Return the calls of a turn that did not come back, as nobody runs tools here just now.

        :return: tuples of the call, the message that marks it or an empty record, and what the
            model is to be told. Tools are called one after the other: after one that may have run,
            the others cannot have.
        """
        calls, lost = turn._tool_calls(), []
        results = turn._tool_results() if calls else {}
        for call in calls:
            message = results.get(call.get("id"), turn.browse())
            if message and message.body_json.get("status") not in {"requested", "executing"}:
                continue
            is_begun = message or not lost
            lost.append((call, message, TOOL_LOST if is_begun else TOOL_NOT_CALLED))
        return lost

    @api.model
    def _answer_lost_call(self, job, turn, call, message, sentence):
        """Give a tool that was called and did not come back a result: the model is told.

        Whether a tool that it calls once more does a thing twice, it knows.
        """
        data = {
            "tool_call_id": call.get("id"),
            "tool_name": (call.get("function") or {}).get("name"),
            "tool_call": call,
            "status": "error",
            "error": sentence,
        }
        if message:
            message.body_json = {**message.body_json, **data}
        else:
            job.thread_id.message_post(
                body=sentence, body_json=data, llm_role="tool", parent_id=turn.parent_id.id
            )

    @api.model
    def _put_question(self, job, claim):
        """Post the question that only the inputs have, before its answer is waited for."""
        if job._put_question():
            self._lock_job(claim)
            self.env.cr.commit(goes_on=True)  # pylint: disable=invalid-commit

    # === ERRORS === #

    @api.model
    def _key_of(self, job_context):
        """Return the provider's API key, which must not be told with an error."""
        with contextlib.suppress(psycopg2.Error):
            providers = self.env["llm.generation.queue"].provider_id
            provider = providers.browse(job_context.provider_id).exists()
            return provider._read_api_key() if provider else ""
        return ""

    @api.model
    def _answer_of(self, error, claim, *, polling, recorder, key=""):
        """Translate an exception of the conversation into an answer, in this model's language."""
        if isinstance(error, ThreadBusyError):
            return Answer("failed", error_type="busy", retry_after=BUSY_DELAY)
        known = classify(error, recorder.error)
        if known is None and is_away(error) and not recorder.has_begun:
            known = exceptions.OverloadedError(
                self.env._("This server has no database connection to spare.")
            )
        if known is None and is_away(error):
            known = exceptions.UnknownOutcomeError(
                self.env._("The database was away during the call.")
            )
        if known is None and isinstance(error, AccessError | MissingError):
            return Answer("failed", error_type="access", error_message=redact(error))
        if known is None and isinstance(error, UserError):
            known = exceptions.BadRequestError(str(error))
        if known is None:
            _logger.error("Job %s failed unexpectedly\n%s", claim.job_id, traceback_of(error, key))
            text = redact(f"{type(error).__name__}: {error}")
            return Answer("failed", error_type="internal", error_message=text)
        if polling and known.error_type not in ENDS_THERE:
            # That the question failed says nothing about the job.
            return Answer("running", poll_after=known.retry_after)
        answer = Answer.from_error(known)  # what is no sentence of ours stays as it is
        return replace(answer, error_message=self.env._(answer.error_message))
