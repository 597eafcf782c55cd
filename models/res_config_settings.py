from odoo import fields, models

from ..const import (
    DEFAULT_JOB_TIMEOUT,
    DEFAULT_MAX_CONCURRENT,
    DEFAULT_RETENTION_DAYS,
    DEFAULT_RETRY_DELAY_MINUTES,
)


class ResConfigSettings(models.TransientModel):
    """What new queues start with, and how long ended jobs are kept."""

    _inherit = "res.config.settings"

    llm_generation_max_concurrent_jobs = fields.Integer(
        "Concurrent Jobs",
        config_parameter="llm_generate_job.max_concurrent_jobs",
        default=DEFAULT_MAX_CONCURRENT,
    )
    llm_generation_retry_delay_minutes = fields.Float(
        "Retry Delay",
        config_parameter="llm_generate_job.retry_delay_minutes",
        default=DEFAULT_RETRY_DELAY_MINUTES,
    )
    llm_generation_job_timeout = fields.Integer(
        "Job Timeout",
        config_parameter="llm_generate_job.job_timeout",
        default=DEFAULT_JOB_TIMEOUT,
    )
    llm_generation_retention_days = fields.Integer(
        "Retention",
        config_parameter="llm_generate_job.retention_days",
        default=DEFAULT_RETENTION_DAYS,
    )
