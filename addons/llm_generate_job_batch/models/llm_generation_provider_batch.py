import uuid
from datetime import timedelta

from odoo import api, fields, models
from odoo.exceptions import UserError

from odoo.addons.llm_generate_job.const import ERROR_TYPES, LAST_ID
from odoo.addons.llm_generate_job.protocol.sanitize import text_of

from .. import statements as sql

#: Beyond it nobody foresees the end of a batch: services end one after a day.
LONGEST = timedelta(days=1)
#: How far the clocks of a service and of this database are apart at most.
CLOCKS = timedelta(minutes=10)
#: The life of a batch. Which call of the provider each state has behind it is in
#: `provider_batches.py`.
STATES = [
    # Its jobs are chosen; the provider knows nothing of it.
    ("collected", "Collected"),
    # The provider may have been given it; nobody here knows. It is looked for by its key.
    ("submitting", "Being Submitted"),
    # The provider has it, under an id of its own.
    ("running", "At the Provider"),
    # What the provider answered is stored, and the other jobs went back. Final.
    ("done", "Done"),
    # Given up before its end. Final.
    ("cancelled", "Cancelled"),
    # The provider did not take it, or lost it; its jobs went back. Final.
    ("failed", "Failed"),
]


class LlmGenerationProviderBatch(models.Model):
    """Jobs that a provider is given at once, at half the price: one external job of many.

    Its jobs are `queued` until an answer comes, and run by themselves at their date in any case.
    """

    _name = "llm.generation.provider.batch"
    _description = "LLM Provider Batch"
    _inherit = ["llm.generation.bounds"]
    _order = "id desc"
    _rec_name = "key"

    provider_id = fields.Many2one(
        "llm.provider", required=True, readonly=True, index=True, ondelete="cascade"
    )
    model_id = fields.Many2one(
        "llm.model", required=True, readonly=True, index=True, ondelete="cascade"
    )
    company_id = fields.Many2one(related="provider_id.company_id", store=True)
    state = fields.Selection(STATES, default="collected", required=True, readonly=True)
    key = fields.Char(
        default=lambda self: uuid.uuid4().hex,
        required=True,
        readonly=True,
        copy=False,
        help="By this it is found at the provider. It was stored before the batch was submitted.",
    )
    external_id = fields.Char("Batch at the Provider", readonly=True, copy=False)
    job_ids = fields.One2many("llm.generation.job", "provider_batch_id", "Jobs", readonly=True)
    job_count = fields.Integer("Jobs Submitted", readonly=True)
    done_count = fields.Integer(
        "Done at the Provider", readonly=True, help="As far as the provider tells."
    )
    completed_count = fields.Integer("Answered", readonly=True)
    failed_count = fields.Integer(
        "Refused", readonly=True, help="Answered with an error, which decides on a further try."
    )
    returned_count = fields.Integer(
        "Sent Back", readonly=True, help="Not done by the provider: they run by themselves."
    )
    late_count = fields.Integer(
        "Came Too Late",
        readonly=True,
        help="Answers to jobs that were cancelled, or ran by themselves, meanwhile. They cost"
        " tokens, and nobody gets them.",
    )
    prompt_tokens = fields.Integer(readonly=True)
    completion_tokens = fields.Integer(readonly=True)
    submitted_at = fields.Datetime("Submitted", readonly=True)
    deadline = fields.Datetime(
        readonly=True,
        help="Then most of its jobs have to run: what the provider has not done by a quarter of an"
        " hour before is cancelled there.",
    )
    ended_at = fields.Datetime("Ended", readonly=True)
    error_type = fields.Selection(ERROR_TYPES, readonly=True)
    error_message = fields.Text("What Happened", readonly=True)
    cancel_requested = fields.Boolean("Cancellation Requested", readonly=True)
    pauses_until = fields.Datetime(
        "Holds Its Model Until",
        readonly=True,
        help="No batch of the same model is submitted before: the provider did not take this one.",
    )

    # The engine's, as the notes of a job.
    step = fields.Integer(readonly=True, groups="base.group_system")
    tries = fields.Integer(readonly=True, groups="base.group_system", help="Submissions so far.")
    tried_at = fields.Datetime(
        readonly=True, groups="base.group_system", help="When it was submitted first, perhaps."
    )
    next_step_at = fields.Datetime(readonly=True, groups="base.group_system")
    leased_until = fields.Datetime(readonly=True, groups="base.group_system")

    progress = fields.Float(
        compute="_compute_progress", help="Per cent that the provider has done."
    )
    expected_end = fields.Datetime(
        compute="_compute_expected_end",
        help="At the pace so far, where the provider tells how much is done; a guess.",
    )
    is_live = fields.Boolean(compute="_compute_is_live")

    _live_idx = models.Index("(next_step_at) WHERE next_step_at IS NOT NULL")
    _key_unique = models.UniqueIndex("(key)", "A batch has a key of its own.")

    @api.depends("provider_id")
    def _compute_display_name(self):
        for batch in self:
            batch.display_name = f"{batch.provider_id.display_name} #{batch.id}"

    @api.depends("done_count", "job_count", "state")
    def _compute_progress(self):
        for batch in self:
            share = 100.0 * batch.done_count / batch.job_count if batch.job_count else 0.0
            batch.progress = 100.0 if batch.state == "done" else min(100.0, share)

    @api.depends("done_count", "job_count", "state", "submitted_at")
    def _compute_expected_end(self):
        now = fields.Datetime.now()
        for batch in self:
            is_known = batch.state == "running" and batch.submitted_at and batch.done_count
            took = now - batch.submitted_at if is_known else None
            left = took * (batch.job_count / batch.done_count - 1) if is_known else None
            batch.expected_end = now + left if left and left <= LONGEST else False

    @api.depends("state")
    def _compute_is_live(self):
        for batch in self:
            batch.is_live = batch.state in {"collected", "submitting", "running"}

    def action_cancel(self):
        """Have the provider give these batches up; what it has not done runs by itself.

        :raise UserError: for one that has ended
        """
        # Whoever may pause the queue of a provider, and nobody else, may do this.
        queues = self.env["llm.generation.queue"].search([
            ("provider_id", "in", self.provider_id.ids)
        ])
        queues.check_access("write")
        if len(queues) < len(self.provider_id) or not all(self.mapped("is_live")):
            raise UserError(self.env._("This batch has ended; there is nothing to cancel."))
        # sudo: the note is the engine's; who may write it was asked before.
        self.sudo().cancel_requested = True
        self.env["llm.generation.engine"]._hurry_batches(self)
        return True

    def action_view_jobs(self):
        """Open the jobs of these batches that are there still."""
        self.check_access("read")
        action = self.env["ir.actions.act_window"]._for_xml_id(
            "llm_generate_job.llm_generation_job_action"
        )
        return {**action, "domain": [("provider_batch_id", "in", self.ids)], "context": {}}

    def _custom_id(self, job_id):
        """Return by which the answer to one of its jobs is known: of letters and digits."""
        return f"{self.key}-{job_id}"

    def _job_id_of(self, custom_id):
        """Return the id of the job that an answer is for, 0 for one of somebody else."""
        key, _dash, number = text_of(custom_id).partition("-")
        if key != self.key or not number.isdecimal() or len(number) > len(str(LAST_ID)):
            return 0
        job_id = int(number)
        return job_id if job_id <= LAST_ID else 0

    def _made_since(self):
        """Return the moment since which its service has it, by the service's clock, if it has."""
        return self.tried_at - CLOCKS

    def _due_date(self):
        """Return when most of its jobs have to run; None where none of them waits any more.

        Those that have left by their dates count, too: else it would move on with each.
        """
        dates = [date for _job, date in self._waiting_dates()]
        return min(dates[len(dates) // 2], self.deadline or dates[-1]) if dates else None

    def _waiting_jobs(self):
        """Return the jobs that wait for its answer, the most urgent first."""
        ids = (job_id for job_id, _date in self._waiting_dates())
        return self.env["llm.generation.job"].browse(ids)

    def _waiting_dates(self):
        """Return a list of `(id, date)` of the jobs that wait for its answer, in their order."""
        return self.env["llm.generation.engine"]._select(sql.WAITING_IN, [self.id])
