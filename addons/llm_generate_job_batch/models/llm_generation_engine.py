import contextlib
import functools
import logging
import math
import threading
from dataclasses import replace

from odoo import api, models

from odoo.addons.llm_generate_job.const import RUNNER_THREADS
from odoo.addons.llm_generate_job.exceptions import (
    BadRequestError,
    UnknownOutcomeError,
    UnreadableAnswerError,
)
from odoo.addons.llm_generate_job.protocol.answer import Answer
from odoo.addons.llm_generate_job.protocol.backoff import REFUSALS, Decision
from odoo.addons.llm_generate_job.protocol.http_errors import classify, traceback_of
from odoo.addons.llm_generate_job.protocol.sanitize import ANSWER_LIMIT
from odoo.addons.llm_generate_job.runner.cursor import is_locked
from odoo.addons.llm_generate_job.runner.executor import Completer, EnvironmentFactory, Workers
from odoo.addons.llm_generate_job.runner.messages import Due

from .. import statements as sql
from .llm_generation_data import FORMAT, FORMAT_RE, OF_SCHEMA

_logger = logging.getLogger(__name__)

#: What a model is told whose answer is not the data that it has to be.
REPAIR = "That is not what was asked for:\n{errors}\nAnswer with the corrected JSON only."
#: After these a job is asked again at no cost, as nothing was paid for; before a repair it was.
FREE_ERRORS = REFUSALS | {"rate_limited", "overloaded"}
#: Where a transaction keeps the batches that are looked at after its commit.
ENDED = "llm_generate_job_batch.ended"
#: What the log is told, each with a traceback without credentials.
UNSTORED = "The answer of job %s could not be stored in its record\n%s"
UNSEEN = "Batches %s were not looked at\n%s"
UNTOLD = "The callback of batch %s failed\n%s"
#: In this process one callback at a time runs apart.
CALLBACKS = Workers(1, "llm_generate_job_batch.callbacks", lambda: None)


def _run_callbacks(engine, batch_ids):
    threading.current_thread().dbname = engine.env.cr.dbname  # for the log
    factory = EnvironmentFactory(engine.env.cr.dbname, **engine.env.context)
    factory.engine()._tell_each(batch_ids)


class LlmGenerationEngine(models.AbstractModel):
    """Lets in economy jobs when their queue is idle, and notices that a batch has ended.

    Two transactions that end the last two jobs of a batch do not see each other. So each looks
    after its commit: the later one sees all jobs ended, and calls the callback. No row is written
    by every job that ends.
    """

    _inherit = "llm.generation.engine"

    # === ECONOMY === #

    @api.model
    def _release_held(self):
        return super()._release_held() + len(self._change(sql.PROMOTE_ECONOMY))

    @api.model
    def _is_held_due(self):
        return super()._is_held_due() or bool(self._select(sql.ANY_IDLE))

    @api.model
    def _start_now(self, jobs):
        jobs.sudo().latest_at = False  # sudo: as there, it is the engine's
        return super()._start_now(jobs)

    @api.model
    def _wake_for_economy(self, jobs):
        """Have the clocks look whether the queues of these jobs, which moved, are idle now."""
        if self._select(sql.SAVING_BESIDE, [jobs.ids]):
            self._wake(Due())

    # === ANSWERS THAT ARE DATA === #

    @api.model
    def _submit(self, job, job_context, recorder):
        """Ask for data by the chat: only there the same attempt can ask once more."""
        if not job._is_data_of_chat():
            return super()._submit(job, job_context, recorder)
        if job_context.earlier_job:
            self._end_earlier_try(job, job_context.earlier_job)
        return self._generate(job, job_context.claim, recorder), False

    @api.model
    def _answer_without_messages(self, job, claim, recorder):
        """Ask again, a bounded number of times, about an answer that is not the data it has to be.

        :raise UnreadableAnswerError: for what still is not, with the path and the reason
        """
        if not job._answer_schema():
            return super()._answer_without_messages(job, claim, recorder)
        messages = job._asked_messages()
        text = job.sudo().unfit_output  # sudo: of what the model answered to this very job
        for repair in range(job.max_repairs + 1):
            if repair:
                self._note_repair(job, claim, recorder, repair)
            if repair or not text:
                with self._counted(recorder) if repair else contextlib.nullcontext():
                    text = self._ask_data(job, claim, recorder, messages)
            errors = job._answer_errors(text)
            if not errors:
                return Answer("completed", output=text)
            if errors[0].startswith(OF_SCHEMA):
                break  # no other answer mends a schema
            question = REPAIR.format(errors="\n".join(f"- {error}" for error in errors))
            messages = [
                *messages,
                {"role": "assistant", "content": text},
                {"role": "user", "content": question},
            ]
        raise UnreadableAnswerError("\n".join(errors), scope="request")

    @contextlib.contextmanager
    def _counted(self, recorder):
        """Have an error cost a retry: what was asked before is paid for, and would be again."""
        try:
            yield
        except Exception as error:
            known = classify(error, recorder.error)
            if not known or not (known.unbilled or known.error_type in FREE_ERRORS):
                raise
            raise UnknownOutcomeError(
                str(known), retry_after=known.retry_after, scope="request"
            ) from error

    @api.model
    def _ask_data(self, job, claim, recorder, messages):
        try:
            return self._ask_chat(job, claim, recorder, messages)
        except Exception as error:
            refusal = classify(error, recorder.error)
            is_refused = isinstance(refusal, BadRequestError) and FORMAT_RE.search(str(error))
            if FORMAT in job.generation_inputs or not is_refused:
                raise
        # Not each server that speaks as OpenAI does knows it; the question says it, too.
        recorder.inputs = {
            name: recorder.inputs[name] for name in recorder.inputs.keys() - {FORMAT}
        }
        return self._ask_chat(job, claim, recorder, messages)

    @api.model
    def _note_repair(self, job, claim, recorder, repair):
        """Have the attempt tell of a question that is asked once more, before it is paid for."""
        self._checkpoint(job, claim, None)
        attempt = self.env["llm.generation.attempt"].browse(claim.token)
        attempt.write({"repairs": repair, **recorder.usage})
        self.env.cr.commit(goes_on=True)  # pylint: disable=invalid-commit

    @api.model
    def _with_known_messages(self, jobs, answers):
        """Refuse data that came from batches or jobs of the provider: nobody has looked at it."""
        answers = super()._with_known_messages(jobs, answers)
        for job in jobs:
            answer = answers[job.id]
            is_of_chat = job._is_data_of_chat()
            is_unseen = job._answer_schema() and (job.batch_priced or not is_of_chat)
            if answer.state != "completed" or not is_unseen:
                continue
            owned = job.with_user(job.user_id).with_context(**self._owner_context(job))
            if errors := owned._answer_errors(answer.output or ""):
                failed = Answer.from_error(UnreadableAnswerError("\n".join(errors)))
                failed = replace(failed, usage=answer.usage, scope="request")
                answers = {**answers, job.id: failed}
                if is_of_chat and job.max_repairs and not errors[0].startswith(OF_SCHEMA):
                    job.unfit_output = (answer.output or "")[:ANSWER_LIMIT]
        return answers

    @api.model
    def _decide(self, job, queue, answer, scope=None):
        """Have the chat mend what a batch answered: only there a model can be asked once more."""
        is_unfit = answer.error_type == "unreadable" and job.unfit_output
        is_unknown = (
            answer.error_type == "bad_request"
            and FORMAT_RE.search(answer.error_message or "")
            and FORMAT not in (job.generation_inputs or {})
        )
        if job.batch_priced and (is_unfit or is_unknown) and job._is_data_of_chat():
            return Decision("snooze")
        return super()._decide(job, queue, answer, scope)

    # === THE END OF A BATCH === #

    @api.model
    def _have_ended(self, jobs):
        """Give the records of a server action their answers, and look at the jobs' batches."""
        for job in jobs:
            if job.batch_id.action_id:
                self._store_answer(job)
        self._look_later(jobs.batch_id)

    @api.model
    def _store_answer(self, job):
        owned = job.with_user(job.user_id).with_context(
            tracking_disable=False, **self._owner_context(job)
        )
        try:
            with self.env.cr.savepoint():
                job.batch_id.action_id._store_llm_answer(owned)
        except BaseException as error:
            if self._is_set_aside(error):
                raise
            # The answer is paid for, and stays in its thread.
            _logger.error(UNSTORED, job.id, traceback_of(error))  # noqa: TRY400 it is redacted

    @api.model
    def _look_later(self, batches):
        """Look at batches when this transaction, in which jobs of theirs ended, is committed."""
        if self._is_inline():
            self._tell_done(batches.ids)
            return
        postcommit = self.env.cr.postcommit
        if ENDED not in postcommit.data:
            postcommit.data[ENDED] = set()
            postcommit.add(functools.partial(self._look_now, postcommit.data[ENDED]))
        postcommit.data[ENDED].update(batches.ids)

    def _look_now(self, batch_ids):
        """Tell of the batches that are done, in a thread of its own where a runner has found them.

        A callback may take long, and a runner's threads store the answers of others. If the process
        ends before, so does what the callback did, and the sweep looks again.
        """
        thread = threading.current_thread()
        is_shared = isinstance(thread, Completer) or thread.name.startswith(RUNNER_THREADS)
        try:
            done = self._done_batches(sorted(batch_ids))
            if done and is_shared:
                CALLBACKS.submit(_run_callbacks, self, done)
            else:
                self._tell_each(done)
        except BaseException as error:  # noqa: BLE001 whatever it is
            # The jobs are committed, whatever becomes of the batch: the sweep looks again.
            _logger.error(UNSEEN, sorted(batch_ids), traceback_of(error))  # noqa: TRY400 as above

    @api.model
    def _tell_done(self, batch_ids=None):
        """Note which batches are done, and call the callback of each that is for the first time.

        :param list batch_ids: None looks at all batches: a process may have died between the
            commit of the last job and the look at its batch
        :return: how many batches were found done
        """
        return self._tell_each(self._done_batches(batch_ids))

    @api.model
    def _done_batches(self, batch_ids):
        with self._transaction() as own:
            return [row[0] for row in own._select(sql.DONE_BATCHES, {"batches": batch_ids})]

    @api.model
    def _tell_each(self, batch_ids):
        """Tell of each of these batches; one that cannot be told of does not hold up the others."""
        told = 0
        for batch_id in batch_ids:
            try:
                told += self._tell_batch(batch_id)
            except BaseException as error:  # noqa: BLE001 whatever it is
                if not is_locked(error):  # else the sweep looks again
                    _logger.error(UNSEEN, [batch_id], traceback_of(error))  # noqa: TRY400 as above
        return told

    @api.model
    def _tell_batch(self, batch_id):
        # In one transaction: where the mark is lost, so is what the callback did.
        with self._transaction() as own:
            marked = own._change(sql.MARK_DONE, [batch_id], touches=["llm.generation.batch"])
            is_first = marked and marked[0][0]
            # What the callback has not read, or what is answered after it, is paid for and stays.
            if is_first and own._call_back(own.env["llm.generation.batch"].browse(batch_id)):
                own._change(sql.FORGET_TEXTS, [batch_id])
        return len(marked)

    @api.model
    def _call_back(self, batch):
        """Call the callback of a batch, and return whether it came to its end."""
        context = self._owner_context(batch)
        # What a job of another company was answered is read by its owner, too.
        jobs = self.env["llm.generation.job"]
        rows = jobs._read_group([("batch_id", "=", batch.id)], ["company_id"])
        companies = batch.company_id.union(*(company for (company,) in rows))
        allowed = set(batch.user_id._get_company_ids())
        mine = [one for one in companies.ids if one in allowed]
        context["allowed_company_ids"] = mine or context["allowed_company_ids"]  # none means all
        own = batch.with_user(batch.user_id).with_context(tracking_disable=False, **context)
        try:
            with self.env.cr.savepoint():
                own._on_done()
        except BaseException as error:
            if self._is_set_aside(error):
                raise  # the sweep looks again
            # Each of its answers is paid for and stored; another addon's bug is told in the log.
            _logger.error(UNTOLD, batch.id, traceback_of(error))  # noqa: TRY400 as above
            return False
        return True

    @api.model
    def _reopen(self, jobs):
        """Note that the batches of these jobs, which wait again, are not done."""
        self._change(sql.REOPEN, [jobs.ids], touches=["llm.generation.batch"])

    # === CLEANER === #

    @api.model
    def _clean_up(self, days=None, seconds=math.inf):
        result = super()._clean_up(days, seconds)
        with self._transaction() as own:
            limit = own._kept_since(days)
            rows = own._change(sql.EMPTY_BATCHES, [limit], touches=["llm.generation.batch"])
            shared = own.env["llm.thread"].browse(row[0] for row in rows if row[0])
            shared.filtered(lambda one: not (one.generation_job_ids or one.message_ids)).unlink()
        return result
