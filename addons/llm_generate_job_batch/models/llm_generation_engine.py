import functools
import logging

from odoo import api, models

from odoo.addons.llm_generate_job.runner.http_errors import traceback_of

from .. import statements as sql

_logger = logging.getLogger(__name__)

#: Where a transaction keeps the groups that are looked at after its commit.
ENDED = "llm_generate_job_batch.ended_groups"
#: What the log is told, each with a traceback without credentials.
UNSTORED = "The answer of job %s could not be stored in its record\n%s"
UNSEEN = "Groups %s were not looked at\n%s"
UNTOLD = "The hook of the group %s failed\n%s"


class LlmGenerationEngine(models.AbstractModel):
    """Lets in economy jobs when their queue is idle; finds out that the last job of a group has ended, and tells it once.

    Two transactions that end the last two jobs do not see each other. So each looks after its
    commit: the later one sees all jobs ended. No row is written by every job that ends.
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
            self._wake("clock")

    # === THE END OF A GROUP === #

    @api.model
    def _have_ended(self, jobs):
        """Give the records of a server action their answers, and look at the jobs' groups."""
        for job in jobs:
            if job.group_id.action_id:
                self._store_answer(job)
        self._look_later(jobs.group_id)

    @api.model
    def _store_answer(self, job):
        owned = job.with_user(job.user_id).with_context(
            tracking_disable=False, **self._owner_context(job)
        )
        try:
            with self.env.cr.savepoint():
                job.group_id.action_id._store_llm_answer(owned)
        except Exception as error:  # noqa: BLE001 whatever it is
            # The answer is paid for, and stays in its thread.
            _logger.error(UNSTORED, job.id, traceback_of(error))  # noqa: TRY400 it is scrubbed

    @api.model
    def _look_later(self, groups):
        """Look at groups when this transaction, in which jobs of theirs ended, is committed."""
        if self._is_inline():
            self._tell_done(groups.ids)
            return
        postcommit = self.env.cr.postcommit
        if ENDED not in postcommit.data:
            postcommit.data[ENDED] = set()
            postcommit.add(functools.partial(self._look_now, postcommit.data[ENDED]))
        postcommit.data[ENDED].update(groups.ids)

    def _look_now(self, group_ids):
        try:
            self._tell_done(sorted(group_ids))
        except Exception as error:  # noqa: BLE001 whatever it is
            # The jobs are committed, whatever becomes of the group: the sweep looks again.
            _logger.error(UNSEEN, sorted(group_ids), traceback_of(error))  # noqa: TRY400 as above

    @api.model
    def _tell_done(self, group_ids=None):
        """Note which groups are done, and call the hook of each that is for the first time.

        :param list group_ids: None looks at all groups: a process may have died between the
            commit of the last job and the look at its group
        :return: how many groups were found done
        """
        with self._transaction() as own:
            done = [row[0] for row in own._select(sql.DONE_GROUPS, {"groups": group_ids})]
        return sum(self._tell_group(group_id) for group_id in done)

    @api.model
    def _tell_group(self, group_id):
        # In one transaction: where the mark is lost, so is what the hook did.
        with self._transaction() as own:
            marked = own._change(sql.MARK_DONE, [group_id], touches=["llm.generation.group"])
            if marked and marked[0][0]:
                own._call_group_hook(own.env["llm.generation.group"].browse(group_id))
        return len(marked)

    @api.model
    def _call_group_hook(self, group):
        own = group.with_user(group.user_id).with_context(
            tracking_disable=False, **self._owner_context(group)
        )
        try:
            with self.env.cr.savepoint():
                own._on_done()
        except Exception as error:  # noqa: BLE001 whatever it is
            # Each of its answers is paid for and stored; another addon's bug is told in the log.
            _logger.error(UNTOLD, group.id, traceback_of(error))  # noqa: TRY400 as above

    @api.model
    def _reopen(self, jobs):
        """Note that the groups of these jobs, which wait again, are not done."""
        self._change(sql.REOPEN, [jobs.ids], touches=["llm.generation.group"])
