from operator import methodcaller

from odoo import api, fields, models
from odoo.exceptions import UserError
from odoo.fields import Domain

from odoo.addons.llm_generate_job.const import FINAL_STATES, RETRYING, STATES

IS_UNENDED = methodcaller("_is_unended")


class LlmGenerationBatch(models.Model):
    """Jobs that were asked for together; `llm.generation.job.create_batch()` makes one.

    It is done when each of its jobs has ended for good: a failed job that is going to be retried
    by itself has not. What is told then is in `llm_generation_engine.py`.
    """

    _name = "llm.generation.batch"
    _description = "LLM Generation Batch"
    _inherit = ["llm.generation.bounds"]
    _order = "id desc"

    name = fields.Char(required=True, readonly=True)
    user_id = fields.Many2one(
        "res.users", "Owner", required=True, readonly=True, index=True, ondelete="cascade"
    )
    company_id = fields.Many2one("res.company", readonly=True, index=True, ondelete="restrict")
    job_ids = fields.One2many("llm.generation.job", "batch_id", "Jobs", readonly=True)
    done_at = fields.Datetime("Done", readonly=True, copy=False)
    told_at = fields.Datetime(
        readonly=True, copy=False, groups="base.group_system", help="When its callback was called."
    )
    action_id = fields.Many2one(
        "ir.actions.server",
        readonly=True,
        copy=False,
        groups="base.group_system",
        index="btree_not_null",
        ondelete="set null",
        help="The server action that takes the answers.",
    )
    thread_id = fields.Many2one(
        "llm.thread",
        readonly=True,
        copy=False,
        groups="base.group_system",
        index="btree_not_null",
        ondelete="set null",
        help="The conversation that its jobs share, which post nothing; it goes with the batch.",
    )
    forgets_texts = fields.Boolean(
        readonly=True,
        copy=False,
        groups="base.group_system",
        help="What was asked and answered is removed at its end.",
    )
    callback_model = fields.Char(readonly=True, copy=False, groups="base.group_system")
    callback_ids = fields.Json(readonly=True, copy=False, groups="base.group_system")
    callback_method = fields.Char(readonly=True, copy=False, groups="base.group_system")

    state = fields.Selection(
        [("running", "Running"), ("done", "Done")],
        compute="_compute_state",
        search="_search_state",
    )
    job_count = fields.Integer("All Jobs", compute="_compute_counts")
    draft_count = fields.Integer("Drafts", compute="_compute_counts")
    queued_count = fields.Integer("Queued", compute="_compute_counts")
    running_count = fields.Integer("Running", compute="_compute_counts")
    completed_count = fields.Integer("Completed", compute="_compute_counts")
    failed_count = fields.Integer("Failed", compute="_compute_counts")
    cancelled_count = fields.Integer("Cancelled", compute="_compute_counts")
    progress = fields.Float(
        compute="_compute_counts", help="Per cent of the jobs that have ended for good."
    )

    _undone_idx = models.Index("(id) WHERE done_at IS NULL")

    # === COMPUTE METHODS === #

    @api.depends("done_at")
    def _compute_state(self):
        for batch in self:
            batch.state = "done" if batch.done_at else "running"

    def _search_state(self, operator, value):
        if operator != "in":
            return NotImplemented
        domains = {"done": [("done_at", "!=", False)], "running": [("done_at", "=", False)]}
        return Domain.OR([domains[state] for state in value if state in domains])

    @api.depends("done_at")
    def _compute_counts(self):
        # sudo: who may see a batch may see how far it is.
        Job = self.env["llm.generation.job"].sudo()
        counts = {
            (batch.id, state): count
            for batch, state, count in Job._read_group(
                [("batch_id", "in", self.ids)], ["batch_id", "state"], ["__count"]
            )
        }
        retried = dict(
            Job._read_group(
                [("batch_id", "in", self.ids), *RETRYING.domain],
                ["batch_id"],
                ["__count"],
            )
        )
        for batch in self:
            of_batch = {state: counts.get((batch.id, state), 0) for state, _label in STATES}
            for state, count in of_batch.items():
                batch[f"{state}_count"] = count
            batch.job_count = sum(of_batch.values())
            ended = sum(of_batch[state] for state in FINAL_STATES) - retried.get(batch, 0)
            rest = 100.0 if batch.done_at else 0.0  # of a batch whose jobs were cleaned up
            batch.progress = 100.0 * ended / batch.job_count if batch.job_count else rest

    @api.model
    def _forget_counts(self):
        """Have the counts computed anew: SQL moved the jobs."""
        counts = [n for n, field in self._fields.items() if field.compute == "_compute_counts"]
        self.invalidate_model(counts, flush=False)

    @api.ondelete(at_uninstall=False)
    def _unlink_except_running(self):
        """Keep what somebody waits for: its jobs would go on, and nobody would be told."""
        unended = Domain("state", "not in", FINAL_STATES) | Domain(RETRYING.domain)
        # sudo: whoever's jobs they are.
        jobs = self.env["llm.generation.job"].sudo()
        if jobs.search_count(Domain("batch_id", "in", self.ids) & unended, limit=1):
            raise UserError(self.env._("This batch still runs. Cancel it first, then delete it."))

    def unlink(self):
        """Delete batches that are done, with what their jobs keep in a conversation that is none.

        Other jobs, whose answers stand in a conversation, are left to the clean-up.
        """
        # sudo: a conversation that jobs without messages share has no other purpose.
        shared = self.sudo().thread_id
        jobs = self.sudo().job_ids  # sudo: who may delete the batch need not see each job
        result = super().unlink()
        # What a provider has still to be told of stays until it was.
        jobs.filtered(lambda job: job.thread_id in shared and not job.cancel_requested).unlink()
        jobs.exists().is_kept = False
        shared.filtered(lambda one: not (one.generation_job_ids or one.message_ids)).unlink()
        return result

    # === ACTION METHODS === #

    def action_cancel(self):
        """Give up all jobs of these batches that have not ended.

        :raise UserError: where there is none
        """
        jobs = self._jobs_that(IS_UNENDED)
        if not jobs:
            raise UserError(self.env._("Every job has ended; there is nothing to cancel."))
        jobs._cancel_unended()
        return self._tell_left(IS_UNENDED) or True

    def action_bulk_cancel(self):
        """Cancel what has not ended, some at a time, once somebody has agreed to the number."""
        jobs = self._jobs_that(IS_UNENDED)
        # sudo: how many they are, and nothing else of them.
        left = len(self.sudo()._jobs_that(IS_UNENDED) - jobs)
        return jobs._bulk_action("cancel", left=left)

    def action_retry_failed(self):
        """Queue the failed jobs of these batches again that have a retry left.

        :raise UserError: where there is none
        """
        jobs = self._jobs_that("can_retry")._filtered_identity_free()
        if not jobs:
            raise UserError(self.env._("No failed job has a retry left."))
        jobs.action_retry()
        return self._tell_left("can_retry") or True

    def action_view_jobs(self):
        """Open the jobs of these batches."""
        self.check_access("read")
        action = self.env["ir.actions.act_window"]._for_xml_id(
            "llm_generate_job.llm_generation_job_action"
        )
        return {**action, "domain": [("batch_id", "in", self.ids)], "context": {}}

    # === BUSINESS METHODS === #

    def _jobs_that(self, ability):
        self.check_access("read")
        jobs = self.env["llm.generation.job"].search([("batch_id", "in", self.ids)])
        return jobs.filtered(ability)

    def _tell_left(self, ability):
        """Return the message that some jobs were left alone as the caller may not see them."""
        # sudo: how many they are, and nothing else of them.
        left = self.sudo()._jobs_that(ability) - self._jobs_that(ability)
        if not left:
            return False
        message = self.env._("%s of other companies were left.", len(left))
        params = {"type": "warning", "message": message}
        return {"type": "ir.actions.client", "tag": "display_notification", "params": params}

    def _on_done(self):
        """Act on the end of the batch's last job; called once in its life, as its owner.

        It runs after the commit of the last job, in the transaction that notes that the batch is
        done. An exception is logged and undoes only what this method did. Failed jobs that are
        retried by hand later do not call it again. Whoever overrides it calls `super()`, which
        calls the method that was given to `create_batch()`.
        """
        self.ensure_one()
        # sudo: which method it is was said by code, and is the server's to know.
        callback = self.sudo()
        if callback.callback_model in self.env and callback.callback_method:
            records = self.env[callback.callback_model].browse(callback.callback_ids or ()).exists()
            getattr(records, callback.callback_method)(self)
