from odoo import api, fields, models
from odoo.exceptions import UserError

DEFAULT_BATCH_JOBS = 1000
DEFAULT_BATCH_MINUTES = 15


class LlmGenerationQueue(models.Model):
    """How the economy jobs of a provider gather, to be submitted at once at half the price.

    The scheduled action of retries also finds the batches of jobs whose end nobody noted.
    """

    _inherit = "llm.generation.queue"

    uses_batches = fields.Boolean(
        "Batches at Half the Price",
        tracking=True,
        help="Jobs that run when idle are given to the provider many at once, at half the price."
        " They are answered within hours, most within one, and run by themselves at their latest"
        " date.",
    )
    takes_batches = fields.Boolean(compute="_compute_takes_batches")
    batch_jobs = fields.Integer(
        "Jobs in a Batch",
        default=DEFAULT_BATCH_JOBS,
        required=True,
        tracking=True,
        help="As soon as so many wait they are submitted. No batch has more.",
    )
    batch_minutes = fields.Integer(
        "Longest Wait for Others (min)",
        default=DEFAULT_BATCH_MINUTES,
        required=True,
        tracking=True,
        help="After so many minutes a batch is submitted, however few jobs it has.",
    )
    batch_tokens = fields.Integer(
        "Tokens in Batches",
        default=0,
        required=True,
        tracking=True,
        help="Estimated tokens that the provider has at once in batches of a model; services limit"
        " them. As soon as so many wait they are submitted. 0 means no limit.",
    )
    batches_paused_until = fields.Datetime(
        compute="_compute_batches_paused_until",
        help="No batch of some model is submitted before: the provider took none.",
    )

    _batch_bounds = models.Constraint(
        "CHECK(batch_jobs BETWEEN 1 AND 10000 AND batch_minutes BETWEEN 0 AND 1440"
        " AND batch_tokens >= 0)",
        "A batch has 1 to 10000 jobs and waits at most 1440 minutes for them; tokens cannot be"
        " negative.",
    )

    @api.depends("provider_id")
    def _compute_takes_batches(self):
        for queue in self:
            # sudo: what a provider can do may be known by who sees its queue.
            queue.takes_batches = queue.provider_id.sudo()._takes_batches()

    def _compute_batches_paused_until(self):
        paused = {}
        for batch in self._pausing_batches().sorted("pauses_until"):
            paused[batch.provider_id] = batch.pauses_until
        now = fields.Datetime.now()
        for queue in self:
            until = paused.get(queue.provider_id)
            queue.batches_paused_until = until and until > now and until

    def write(self, vals):
        if vals.get("uses_batches") and not all(self.mapped("takes_batches")):
            raise UserError(
                self.env._(
                    "This provider takes no batches, or no addon for them is installed. Switch it"
                    " off."
                )
            )
        result = super().write(vals)
        if "uses_batches" in vals:
            self._open_lane() if vals["uses_batches"] else self._close_lane()
        return result

    def _pausing_batches(self):
        # sudo: pauses are the engine's; who sees a queue may know of them, and managers end them.
        batches = self.env["llm.generation.provider.batch"].sudo()
        pausing = ("pauses_until", "!=", False)
        return batches.search([("provider_id", "in", self.provider_id.ids), pausing])

    def _resume(self):
        result = super()._resume()
        pausing = self._pausing_batches()
        pausing.pauses_until = False
        self.env["llm.generation.engine"]._hurry_batches(pausing)
        return result

    def _open_lane(self):
        """Let the economy jobs that wait gather for batches."""
        # sudo: who may configure the queue may have its jobs wait in another way.
        self._saving_jobs()._enter_batch_lane()
        self.env["llm.generation.engine"]._wake()

    def _close_lane(self):
        """Let the jobs that gather wait until the queue is idle; batches at the provider go on."""
        gathering = self._saving_jobs().filtered(
            lambda job: job.batch_lane and not job.provider_batch_id
        )
        gathering.batch_lane = False
        self.env["llm.generation.engine"]._wake()

    def _saving_jobs(self):
        # sudo: who may configure the queue may have its jobs wait in another way.
        jobs = self.env["llm.generation.job"].sudo()
        return jobs.search([
            ("provider_id", "in", self.provider_id.ids),
            ("state", "=", "queued"),
            ("is_scheduled", "=", True),
            ("is_economy", "=", True),
        ])

    @api.model
    def _auto_retry_failed_jobs(self):
        self.env["llm.generation.engine"]._tell_done()
        return super()._auto_retry_failed_jobs()
