from odoo import api, fields, models
from odoo.tools import SQL

from ..const import ERROR_TYPES, FINAL_STATES, STATES

#: field -> (column, share): the value below which this share of a group lies.
PERCENTILES = {
    "wait_p50": ("wait", 0.5),
    "wait_p95": ("wait", 0.95),
    "duration_p50": ("duration", 0.5),
    "duration_p95": ("duration", 0.95),
}


class LlmGenerationReport(models.Model):
    """The jobs that ended, one row each, with what can be counted and compared of them."""

    _name = "llm.generation.report"
    _description = "LLM Generation Analysis"
    _auto = False
    _order = "completed_at desc, id desc"
    _rec_name = "job_id"

    job_id = fields.Many2one("llm.generation.job", readonly=True)
    completed_at = fields.Datetime("Ended At", readonly=True)
    # Odoo's own groups by hour write 1 for both one in the morning and one in the afternoon.
    clock_hour = fields.Char("Hour", readonly=True, help="Date and hour, in your time zone.")
    hour = fields.Char(
        "Hour of the Day", readonly=True, help="In which the jobs ended, in your time zone."
    )
    state = fields.Selection(
        [(state, label) for state, label in STATES if state in FINAL_STATES], readonly=True
    )
    error_type = fields.Selection(ERROR_TYPES, readonly=True)
    provider_id = fields.Many2one("llm.provider", readonly=True)
    model_id = fields.Many2one("llm.model", readonly=True)
    user_id = fields.Many2one("res.users", readonly=True)
    company_id = fields.Many2one("res.company", readonly=True)
    completed = fields.Integer("Completed Jobs", readonly=True)
    failed = fields.Integer("Failed Jobs", readonly=True)
    success_rate = fields.Float(
        readonly=True, aggregator="avg", help="Completed jobs among those that completed or failed."
    )
    retry_count = fields.Integer("Retries", readonly=True)
    wait = fields.Float("Average Wait", readonly=True, aggregator="avg")
    wait_p50 = fields.Float("Median Wait", readonly=True, aggregator="avg")
    wait_p95 = fields.Float(
        "Wait (p95)", readonly=True, aggregator="avg", help="95 of 100 jobs waited no longer."
    )
    duration = fields.Float("Average Run Time", readonly=True, aggregator="avg")
    duration_p50 = fields.Float("Median Run Time", readonly=True, aggregator="avg")
    duration_p95 = fields.Float(
        "Run Time (p95)", readonly=True, aggregator="avg", help="95 of 100 jobs ran no longer."
    )
    # Of all attempts: each is paid for.
    prompt_tokens = fields.Integer(readonly=True)
    completion_tokens = fields.Integer(readonly=True)
    tokens = fields.Integer("All Tokens", readonly=True)

    _depends = {
        "llm.generation.attempt": ["completion_tokens", "prompt_tokens"],
        "llm.generation.job": [
            "completed_at",
            "completion_tokens",
            "company_id",
            "duration",
            "error_type",
            "model_id",
            "prompt_tokens",
            "provider_id",
            "queue_duration",
            "retry_count",
            "state",
            "user_id",
        ],
    }

    @property
    def _table_query(self):
        # No join and no aggregate: PostgreSQL dissolves it in what is asked of it.
        return SQL(
            """
            SELECT id, id AS job_id, completed_at, state, provider_id, model_id, user_id,
                company_id, retry_count,
                %(prompt)s AS prompt_tokens, %(completion)s AS completion_tokens,
                CASE state WHEN 'failed' THEN error_type END AS error_type,
                to_char(%(local)s, 'YYYY-MM-DD HH24:00') AS clock_hour,
                to_char(%(local)s, 'HH24:00') AS hour,
                CASE state WHEN 'completed' THEN 1 ELSE 0 END AS completed,
                CASE state WHEN 'failed' THEN 1 ELSE 0 END AS failed,
                CASE state WHEN 'completed' THEN 1.0 WHEN 'failed' THEN 0.0 END AS success_rate,
                %(prompt)s + %(completion)s AS tokens,
                %(waited)s AS wait, %(waited)s AS wait_p50, %(waited)s AS wait_p95,
                %(ran)s AS duration, %(ran)s AS duration_p50, %(ran)s AS duration_p95
            FROM llm_generation_job j
            WHERE completed_at IS NOT NULL
            """,
            prompt=self._paid_tokens("prompt"),
            completion=self._paid_tokens("completion"),
            local=SQL("completed_at AT TIME ZONE 'UTC' AT TIME ZONE %s", str(self.env.tz)),
            # As in the figures of queues: what neither waited nor ran says nothing.
            waited=SQL("CASE WHEN state <> 'cancelled' THEN NULLIF(queue_duration, 0) END"),
            ran=SQL("CASE WHEN state <> 'cancelled' THEN NULLIF(duration, 0) END"),
        )

    @api.model
    def _paid_tokens(self, kind):
        """Return how many tokens of a kind all attempts of a job `j` used."""
        # Few jobs have more than one: only for them is their table looked into.
        return SQL(
            """
            COALESCE(CASE WHEN j.attempt_count > 1 THEN (
                SELECT sum(a.%(column)s)::int FROM llm_generation_attempt a WHERE a.job_id = j.id
            ) ELSE j.%(column)s END, 0)
            """,
            column=SQL.identifier(f"{kind}_tokens"),
        )

    def _read_group_select(self, aggregate_spec, query):
        name, _colon, function = aggregate_spec.partition(":")
        if name not in PERCENTILES or function != "avg":
            return super()._read_group_select(aggregate_spec, query)
        column, share = PERCENTILES[name]
        return SQL(
            "percentile_cont(%s) WITHIN GROUP (ORDER BY %s)",
            share,
            self._field_to_sql(self._table, column, query),
        )

    def action_open_job(self):
        """Open the job that a row is about."""
        self.ensure_one()
        return self.job_id._get_records_action()
