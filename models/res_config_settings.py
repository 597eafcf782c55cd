from odoo import api, fields, models
from odoo.exceptions import ValidationError

from ..const import (
    DEFAULT_JOB_TIMEOUT,
    DEFAULT_MAX_CONCURRENT,
    DEFAULT_MAX_RETRIES,
    DEFAULT_RETENTION_DAYS,
    DEFAULT_RETRY_DELAY_MINUTES,
)

#: How the names of our parameters begin.
PREFIX = "llm_generate_job."


class ResConfigSettings(models.TransientModel):
    """What new queues and jobs start with, and how long ended jobs are kept."""

    _inherit = "res.config.settings"

    llm_generation_max_concurrent_jobs = fields.Integer(
        "Jobs at the Same Time",
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
    llm_generation_max_retries = fields.Integer(
        "Retries",
        config_parameter="llm_generate_job.max_retries",
        default=DEFAULT_MAX_RETRIES,
    )
    llm_generation_always_queue = fields.Boolean(
        "Always Queue", config_parameter="llm_generate_job.always_queue", default=False
    )
    llm_generation_retention_days = fields.Integer(
        "Retention",
        config_parameter="llm_generate_job.retention_days",
        default=DEFAULT_RETENTION_DAYS,
    )

    @api.constrains(
        "llm_generation_max_concurrent_jobs",
        "llm_generation_retry_delay_minutes",
        "llm_generation_job_timeout",
        "llm_generation_max_retries",
        "llm_generation_retention_days",
    )
    def _check_llm_generation(self):
        few = self.env._("A queue runs at least one job at a time: set Jobs at the Same Time to 1.")
        short = self.env._("Ended jobs are kept for a day at least: set Retention to 1.")
        negative = self.env._("Delays, timeouts and retries cannot be negative. Use 0 for none.")
        for name, least, sentence in (
            ("llm_generation_max_concurrent_jobs", 1, few),
            ("llm_generation_retention_days", 1, short),
            ("llm_generation_retry_delay_minutes", 0, negative),
            ("llm_generation_job_timeout", 0, negative),
            ("llm_generation_max_retries", 0, negative),
        ):
            if any(settings[name] < least for settings in self):
                raise ValidationError(sentence)

    @api.model
    @api.private
    def get_values(self):
        # As the engine reads them: Odoo takes each text for a yes, also "False", and 7.0 for 0.
        setting = self.env["llm.generation.queue"]._default_setting
        own = {
            name: setting(field.config_parameter.removeprefix(PREFIX), field.default(self))
            for name, field in self._own_settings({"boolean", "float", "integer"})
        }
        return {**super().get_values(), **own}

    def set_values(self):
        result = super().set_values()
        # Odoo forgets a number that is 0, and it would be the default again.
        for name, field in self._own_settings({"float", "integer"}):
            if not self[name]:
                self.env["ir.config_parameter"].set_param(field.config_parameter, "0")
        return result

    @api.model
    def _own_settings(self, types):
        """Return our fields of some types, and their names: others may be closed to who saves."""
        return [
            (name, field)
            for name, field in self._fields.items()
            if field.type in types
            and (getattr(field, "config_parameter", None) or "").startswith(PREFIX)
        ]
