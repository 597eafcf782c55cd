from odoo import api, models
from odoo.exceptions import UserError

from ..const import DEFAULT_PRIORITY

#: Jobs that a web client selects at most; of a whole filter it sends the first ones only.
SELECTION_LIMIT = 20_000


class LlmGenerationJob(models.Model):
    """What is done to many jobs at once: what can be done is done, and the rest is explained."""

    _inherit = "llm.generation.job"

    # === ACTION METHODS === #

    def action_bulk_retry(self):
        """Have the web client retry these jobs, some at a time, and say what came of it."""
        return self._bulk_action("retry")

    def action_bulk_cancel(self):
        """Have the web client cancel these jobs, some at a time, and say what came of it."""
        return self._bulk_action("cancel")

    def _bulk_action(self, what, value=None, left=0):
        """Return the action that calls `apply_bulk()` for some jobs after the other.

        :param int left: how many more are meant that the caller may not see; they are told of
        """
        self.check_access("read")
        params = {"what": what, "value": value, "ids": self._bulk_selection().ids}
        if left:
            params["left"] = left
        return {"type": "ir.actions.client", "tag": "llm_generation_bulk", "params": params}

    def _bulk_selection(self):
        """Return the jobs that are meant: all of the filter where its first ones were sent."""
        limit = int(
            # sudo: parameters are the administrators'.
            self.env["ir.config_parameter"].sudo().get_param("web.active_ids_limit")
            or SELECTION_LIMIT
        )
        context = self.env.context
        # From the list of queues comes the filter of queues.
        is_ours = context.get("active_model", self._name) == self._name
        if is_ours and context.get("active_domain") and len(self) >= limit:
            return self.search(context["active_domain"])
        return self

    def apply_bulk(self, what, value=None):
        """Do to these jobs what can be done to them, in one transaction.

        :param str what: `retry`, `cancel` or `prioritize`
        :param int value: the new priority
        :return: `{"done": number, "refused": {reason: number}}`; the reasons are sentences' ends
        :raise UserError: for anything else to do
        """
        jobs = self.exists()
        jobs.check_access("read")
        if what not in self._bulk_methods():
            raise UserError(self.env._("This action is not known any more. Reload the page."))
        able, refused = self.browse(), {}
        for job, reason in jobs._bulk_reasons(what).items():
            if reason:
                refused[reason] = refused.get(reason, 0) + 1
            else:
                able |= job
        if able:
            self._bulk_methods()[what](able, value)
        return {"done": len(able), "refused": refused}

    # === BUSINESS METHODS === #

    @api.model
    def _bulk_methods(self):
        return {
            "retry": lambda jobs, _value: jobs.action_retry(),
            "cancel": lambda jobs, _value: jobs.action_cancel(),
            "prioritize": lambda jobs, value: jobs.write({
                "priority": DEFAULT_PRIORITY if value is None else value
            }),
        }

    def _bulk_reasons(self, what):
        """Return by job why it cannot be done, an empty text where it can."""
        reasons = {job: job._bulk_reason(what) for job in self}
        if what == "retry":
            able = self.filtered(lambda job: not reasons[job])
            for job in able - able._filtered_identity_free():
                reasons[job] = self.env._("a job with the same key waits or runs")
            able = self.filtered(lambda job: not reasons[job])
            for job in able - able._may_retry():
                reasons[job] = self._retry_refusal()
        return reasons

    def _bulk_reason(self, what):
        if what == "retry" and self.state != "failed":
            return self.env._("did not fail")
        if what == "retry" and not self.can_retry:
            return self.env._("no retry is left")
        if what == "cancel" and not self.can_cancel:
            return self.env._("ended before")
        if what == "prioritize" and self.state not in {"draft", "queued", "failed"}:
            return self.env._("run already, or have ended")
        if what == "prioritize" and not self._may_prioritize():
            return self.env._("only a manager may do that")
        return ""

    def _may_prioritize(self):
        is_own_draft = self.state == "draft" and self.user_id == self.env.user
        return is_own_draft or self._is_manager()
