import contextlib
import logging
import time

import psycopg2

from odoo import api, models

from .. import exceptions
from ..runner.answer import Answer
from ..runner.database import is_away
from ..runner.http_errors import traceback_of

_logger = logging.getLogger(__name__)

UNSTORED = "The answer of job %s cannot be stored\n%s"
#: Seconds between the tries to store an answer while the database is away: ten minutes.
PATIENCE = (0.2, 0.5, 1, 2, 5, *[10] * 59)

#: Errors of a statement that leave the transaction as it was before it, and pass.
IN_THE_WAY = (
    psycopg2.errors.DeadlockDetected,
    psycopg2.errors.LockNotAvailable,
    psycopg2.errors.QueryCanceled,
)


class LlmGenerationConclusion(models.AbstractModel):
    """Stores what providers answered, whatever stands in the way: the answers are paid for."""

    _name = "llm.generation.conclusion"
    _description = "LLM Generation Conclusion"
    _inherit = ["llm.generation.verdict"]

    def _conclude_or_fail(self, claim, answer, *, polling):
        """Apply an answer; fail the job when it, or what the provider wrote, cannot be stored."""
        try:
            self._conclude([(claim, answer)], polling=polling)
        except Exception as error:
            if is_away(error):
                raise
            self.env.cr.rollback()
            _logger.error(UNSTORED, claim.job_id, traceback_of(error))  # noqa: TRY400 it is scrubbed
            self._conclude([(claim, Answer("failed", error_type="internal"))])

    def _conclude(self, pairs, *, polling=False, held=None):
        """Apply answers and commit; wait for a database that is away: the answers are paid for.

        :param pairs: `(claim, answer)` tuples
        :param bool polling: the provider can be asked for these answers again
        :param list held: see `_fence()`
        """
        for pause in (*PATIENCE, None):
            has_writes = self.env.cr.in_transaction
            try:
                self._apply_and_commit(pairs, held)
                return
            except psycopg2.Error as error:
                if pause is None or not is_away(error):
                    raise
                if held:
                    held.clear()
                if has_writes and isinstance(error, IN_THE_WAY):
                    time.sleep(pause)  # what the provider's code wrote is still there
                    continue
                with contextlib.suppress(psycopg2.Error):
                    self.env.cr.rollback()
                _logger.warning("The database is away (%s), answers wait", type(error).__name__)
                if has_writes:  # what the provider's code wrote is gone with the transaction
                    lost = exceptions.UnknownOutcomeError("The database went away with the answer.")
                    lost = Answer("running") if polling else Answer.from_error(lost)
                    pairs = [(claim, lost) for claim, _answer in pairs]
                time.sleep(pause)

    def _apply_and_commit(self, pairs, held):
        if self.env.cr.in_transaction:
            with self.env.cr.savepoint():
                counted = self._apply(pairs, held)
            if not counted:
                # What an overtaken attempt wrote must not be seen.
                self.env.cr.rollback()
                self._apply(pairs)
        else:
            self._apply(pairs, held)
        self.env.cr.commit()  # pylint: disable=invalid-commit

    @api.model
    def _finish(self, pairs):
        """Store the verdicts of many jobs; one that cannot be stored does not hold up the rest.

        :return: the pairs that are to be stored later: somebody is changing their jobs just now
        """
        held = []
        try:
            with self._transaction(lazy=True) as call:
                call._conclude(pairs, held=held)
        except Exception as error:  # noqa: BLE001 whatever it is, the rest goes on
            if len(pairs) > 1:
                return [late for pair in pairs for late in self._finish([pair])]
            [(claim, answer)] = pairs
            _logger.error(UNSTORED, claim.job_id, traceback_of(error))  # noqa: TRY400 it is scrubbed
            if answer.error_type == "internal":
                return []
            return self._finish([(claim, Answer("failed", error_type="internal"))])
        return [pair for pair in pairs if pair[0] in held]
