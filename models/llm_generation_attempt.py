from odoo import api, fields, models

from ..const import ERROR_TYPES, OUTCOMES


class LlmGenerationRunner(models.Model):
    """A process that runs jobs, while it lives. Written by the engine alone."""

    _name = "llm.generation.runner"
    _description = "LLM Generation Runner"
    _order = "id"

    name = fields.Char("Process", required=True, readonly=True)
    started_at = fields.Datetime(required=True, readonly=True)
    heartbeat_at = fields.Datetime(
        "Last Seen",
        required=True,
        readonly=True,
        help="Renewed every few seconds while the process lives.",
    )
    is_deaf = fields.Boolean(
        readonly=True,
        help="What the database tells does not reach the process, as through a pooler that lends"
        " its connections by transaction: the process looks at its queues every few seconds.",
    )
    slots = fields.Integer(
        readonly=True, help="Jobs that the process runs at the same time, at most."
    )


class LlmGenerationHeldSlot(models.Model):
    """A slot that no job has any more, and whose call may go on. Written by the engine alone.

    The job was cancelled, timed out, given back or rescued. Until the call ends the service has as
    much to do as before, and the limit counts it. Apart from jobs and attempts, which may be
    deleted meanwhile.
    """

    _name = "llm.generation.held.slot"
    _description = "LLM Generation Held Slot"
    _log_access = False

    token = fields.Integer(required=True, help="The id of the attempt that began the call.")
    provider_id = fields.Many2one("llm.provider", required=True, index=True, ondelete="cascade")
    model_id = fields.Many2one("llm.model", ondelete="set null")
    runner_id = fields.Many2one("llm.generation.runner", ondelete="set null")
    until = fields.Datetime(required=True, help="From then on the slot is free in any case.")
    asked_at = fields.Datetime(help="When the provider was last asked whether its job goes on.")

    _token_unique = models.UniqueIndex("(token)")


class LlmGenerationAttempt(models.Model):
    """One try at a job: who ran it, when, and how it ended. Written by the engine alone."""

    _name = "llm.generation.attempt"
    _description = "LLM Generation Attempt"
    _order = "id desc"
    _rec_name = "number"

    job_id = fields.Many2one(
        "llm.generation.job", required=True, readonly=True, index=True, ondelete="cascade"
    )
    number = fields.Integer(readonly=True, aggregator=None)
    runner_id = fields.Many2one(
        "llm.generation.runner",
        readonly=True,
        index="btree_not_null",
        ondelete="set null",
        help="The process that runs the attempt. Empty once the provider runs it by itself.",
    )
    runner_name = fields.Char("Ran In", readonly=True)
    outcome = fields.Selection(OUTCOMES, required=True, readonly=True, default="running")
    started_at = fields.Datetime(required=True, readonly=True, default=fields.Datetime.now)
    ended_at = fields.Datetime(readonly=True)
    duration = fields.Float(
        "Run Time (s)", compute="_compute_duration", help="Seconds of processing."
    )
    external_job_id = fields.Char("Job at the Provider", readonly=True)
    error_type = fields.Selection(ERROR_TYPES, readonly=True)
    error_message = fields.Text(readonly=True)
    prompt_tokens = fields.Integer(readonly=True)
    completion_tokens = fields.Integer(readonly=True)

    @api.depends("started_at", "ended_at")
    def _compute_duration(self):
        for attempt in self:
            ended = attempt.ended_at or attempt.started_at
            attempt.duration = (ended - attempt.started_at).total_seconds()
