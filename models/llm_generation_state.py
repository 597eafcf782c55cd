from datetime import datetime

from odoo import fields, models
from odoo.exceptions import UserError

from ..const import FINAL_STATES, STATES, TRANSITIONS


class LlmGenerationState(models.AbstractModel):
    """The state machine of a job: its state, the dates that follow from it, and the one mover.

    Which moves are legal is the table `TRANSITIONS` of `const.py`.
    """

    _name = "llm.generation.state"
    _description = "LLM Generation State"

    state = fields.Selection(
        STATES, default="draft", required=True, readonly=True, copy=False, group_expand=True
    )
    queued_at = fields.Datetime(readonly=True, copy=False)
    started_at = fields.Datetime(readonly=True, copy=False)
    completed_at = fields.Datetime(readonly=True, copy=False)
    duration = fields.Float(
        "Run Time (s)", readonly=True, copy=False, aggregator="avg", help="Seconds of processing."
    )
    queue_duration = fields.Float(
        "Wait (s)", readonly=True, copy=False, aggregator="avg", help="Seconds of waiting."
    )

    def _set_state(self, target, **values):
        """Move the jobs to `target`, skipping those that may not go there.

        The only place that writes a state, but for the statements ENQUEUE and CLAIM.

        :param str target: a key of `TRANSITIONS`
        :param values: further values to write with the state
        :return: the jobs that moved
        """
        moved = self.filtered(lambda job: job.state in TRANSITIONS[target])
        was_running = moved.filtered(lambda job: job.state == "running")
        now = datetime.now()  # not that of `fields`: the durations want more than whole seconds
        dates = {job.id: job._state_dates(target, now) for job in moved}
        for jobs in moved.grouped(lambda job: str(dates[job.id])).values():
            jobs.sudo().write({"state": target, **dates[jobs[0].id], **values})
        if moved:
            self.env["llm.generation.engine"]._moved(moved, target, was_running)
        return moved

    def _state_dates(self, target, now):
        """Return the timestamps and durations that follow from moving to `target`."""
        if target == "queued":
            given_back = self.state == "running"
            queued_at = self.queued_at if given_back else now
            return {"queued_at": queued_at, "started_at": False, "completed_at": False}
        if target in FINAL_STATES:
            started = self.started_at
            return {
                "completed_at": now,
                "retry_at": False,
                "duration": max(0.0, (now - started).total_seconds()) if started else 0.0,
            }
        return {}

    def _refuse_unless(self, target, sentence):
        """Raise `UserError` unless each of the jobs may move to `target`."""
        self.check_access("read")
        if any(job.state not in TRANSITIONS[target] for job in self):
            raise UserError(sentence)
