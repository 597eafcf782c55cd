from datetime import datetime

from odoo import fields, models
from odoo.exceptions import UserError

from ..const import ERROR_MESSAGE_LIMIT, FINAL_STATES, STATES, TRANSITIONS
from ..protocol.sanitize import redact


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
        if told := values.get("error_message"):  # maybe by another addon
            values["error_message"] = redact(told)[:ERROR_MESSAGE_LIMIT]
        moved = self.filtered(lambda job: job.state in TRANSITIONS[target])
        was_running = moved.filtered(lambda job: job.state == "running")
        now = datetime.now()  # not that of `fields`: the durations want more than whole seconds
        if target in FINAL_STATES:
            moved._note_durations(now)
        # What was given back keeps its old place.
        for dates, jobs in moved.grouped(lambda job: job._state_dates(target, now)).items():
            # sudo: the state is the engine's; who may move a job was asked before.
            jobs.sudo().write({"state": target, **dict(dates), **values})
        if moved:
            self.env["llm.generation.engine"]._moved(moved, target, was_running)
        return moved

    def _note_durations(self, now):
        """Note how long the jobs ran, of which each has its own, without a write for each."""
        field = self._fields["duration"]
        with self.env.protecting([field], self):
            # sudo: as for the state.
            for job in self.sudo():
                started = job.started_at
                job.duration = max(0.0, (now - started).total_seconds()) if started else 0.0

    def _state_dates(self, target, now):
        """Return the timestamps that follow from moving to `target`, as pairs of name and value."""
        if target == "queued":
            queued_at = self.queued_at if self.state == "running" else now
            return (("queued_at", queued_at), ("started_at", False), ("completed_at", False))
        if target in FINAL_STATES:
            return (("completed_at", now), ("retry_at", False))
        return ()

    def _refuse_unless(self, target, sentence):
        """Raise `UserError` unless each of the jobs may move to `target`."""
        self.check_access("read")
        if any(job.state not in TRANSITIONS[target] for job in self):
            raise UserError(sentence)
