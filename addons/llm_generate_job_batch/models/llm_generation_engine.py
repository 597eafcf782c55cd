import functools
import logging
import math

from odoo import api, models

from odoo.addons.llm_generate_job.protocol.http_errors import traceback_of
from odoo.addons.llm_generate_job.runner.messages import Due

from .. import statements as sql

_logger = logging.getLogger(__name__)

#: Where a transaction keeps the batches that are looked at after its commit.
ENDED = "llm_generate_job_batch.ended"
#: What the log is told, each with a traceback without credentials.
UNSTORED = "The answer of job %s could not be stored in its record\n%s"
UNSEEN = "Batches %s were not looked at\n%s"
UNTOLD = "The callback of batch %s failed\n%s"


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
    def _wake_for_economy(self, jobs):
        """Have the clocks look whether the queues of these jobs, which moved, are idle now."""
        if self._select(sql.SAVING_BESIDE, [jobs.ids]):
            self._wake(Due())

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
        try:
            self._tell_done(sorted(batch_ids))
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
        with self._transaction() as own:
            done = [row[0] for row in own._select(sql.DONE_BATCHES, {"batches": batch_ids})]
        return sum(self._tell_batch(batch_id) for batch_id in done)

    @api.model
    def _tell_batch(self, batch_id):
        # In one transaction: where the mark is lost, so is what the callback did.
        with self._transaction() as own:
            marked = own._change(sql.MARK_DONE, [batch_id], touches=["llm.generation.batch"])
            if marked and marked[0][0]:
                own._call_back(own.env["llm.generation.batch"].browse(batch_id))
            if marked:
                own._change(sql.FORGET_TEXTS, [batch_id])
        return len(marked)

    @api.model
    def _call_back(self, batch):
        own = batch.with_user(batch.user_id).with_context(
            tracking_disable=False, **self._owner_context(batch)
        )
        try:
            with self.env.cr.savepoint():
                own._on_done()
        except BaseException as error:
            if self._is_set_aside(error):
                raise  # the sweep looks again
            # Each of its answers is paid for and stored; another addon's bug is told in the log.
            _logger.error(UNTOLD, batch.id, traceback_of(error))  # noqa: TRY400 as above

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
