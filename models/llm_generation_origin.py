import logging

from odoo import api, fields, models

from ..runner.statements import origin as sql

_logger = logging.getLogger(__name__)

#: The parameter that says which database the jobs were last run in.
PARAMETER = "llm_generate_job.database"


class LlmGenerationOrigin(models.AbstractModel):
    """Keeps a restored dump, or a copy, from having done again what was paid for already.

    The database that it comes from went on: what waited there was run, and what ran was answered.
    """

    _name = "llm.generation.origin"
    _description = "LLM Generation Origin"
    _inherit = ["llm.generation.verdict"]

    @api.model
    def _has_moved(self):
        """Return whether the database is another one than that whose jobs it has."""
        known = self._known()
        return bool(known) and known.value != self._here()

    @api.model
    def _settle_if_moved(self):
        """Settle the jobs that a restored or copied database brought along, once.

        What a provider runs is asked about. Whether any other call was answered nobody knows: its
        job fails, and is not retried by itself. A queue where jobs wait is disabled: a manager
        decides about them, and enables it. A database that had nothing to do just goes on.

        :return: whether the database had moved
        """
        with self._transaction() as origin:
            origin._select(sql.LOCK)
            moved = origin._has_moved()
            if moved:
                origin._settle()
            if moved or not origin._known():
                origin._note_here()
        return moved

    def _known(self):
        # Not by `get_param()`: what is cached may be older than the lock.
        # sudo: parameters are the administrators'.
        parameters = self.env["ir.config_parameter"].sudo()
        return parameters.search([("key", "=", PARAMETER)])

    def _here(self):
        return self._select(sql.HERE)[0][0]

    def _note_here(self):
        # sudo: as above.
        self.env["ir.config_parameter"].sudo().set_param(PARAMETER, self._here())

    def _settle(self):
        touches = ["llm.generation.runner", "llm.generation.attempt"]
        self._change(sql.FORGET_RUNNERS, touches=touches)
        counts = {True: 0, False: 0}
        for job_id, external in self._select(sql.RUNNING):
            counts[external] += 1
            job = self.env["llm.generation.job"].browse(job_id)
            if external:
                self._ask_anew(job)
            else:
                job._set_state(
                    "failed",
                    error_type="unknown_outcome",
                    error_message=self.env._(
                        "The database was restored or copied while the job ran; whether the"
                        " provider answered is not known. Retry it if you need the answer."
                    ),
                )
        held = self._select(sql.WOULD_START)
        for queue_id, waiting in held:
            self._hold(self.env["llm.generation.queue"].browse(queue_id), waiting)
        _logger.warning(
            "This database was restored or copied: %s jobs are asked about, the outcome of %s is"
            " unknown, %s queues with waiting jobs are disabled",
            counts[True],
            counts[False],
            len(held),
        )

    def _ask_anew(self, job):
        """Have the provider asked about a job; its time begins now, or it would be over at once."""
        now = fields.Datetime.now()
        job.write({"next_poll_at": now, "started_at": now})
        self.env["llm.generation.attempt"].browse(job.attempt_token).exists().runner_id = False

    def _hold(self, queue, waiting):
        queue.enabled = False
        self._tell_managers(
            queue,
            self.env._("A restored or copied queue waits for you"),
            self.env._(
                "This database was restored from a backup, or copied, with %s jobs that were"
                " waiting. The database that it comes from may have run them since. Cancel those"
                " that must not run again, then enable the queue.",
                waiting,
            ),
        )
