from unittest.mock import patch

import psycopg2

from odoo.tools import mute_logger

from .common import LlmGenerationCommon, posted


class TestLlmGenerationConclusion(LlmGenerationCommon):
    """What a provider answered is stored, whatever stands in the way."""

    def _run_while(self, *errors):
        """Run a job whose answer meets these errors, one at each try to store it."""
        answer = type(self.env["llm.generation.engine"])
        apply, left = answer._apply, list(errors)

        def meet(call, pairs, held=None):
            counted = apply(call, pairs, held)
            if left:
                raise left.pop(0)
            return counted

        self.service.answers["create"] = [posted("Paid for")]
        job = self._create_job("queued")
        with patch.object(answer, "_apply", meet):
            self._process_queue()
        self.assertFalse(left)
        return job

    def test_a_deadlock_costs_no_answer(self):
        job = self._run_while(
            psycopg2.errors.DeadlockDetected(), psycopg2.errors.LockNotAvailable()
        )
        self.assertEqual((job.state, job.retry_count), ("completed", 0))
        self.assertIn("Paid for", job.output_message_id.body)
        self.assertEqual(len(job.attempt_ids), 1)

    @mute_logger("odoo.addons.llm_generate_job.engine.complete")
    def test_a_database_that_goes_away_takes_with_it_what_the_provider_wrote(self):
        job = self._run_while(psycopg2.OperationalError())
        self.assertEqual((job.state, job.error_type), ("failed", "unknown_outcome"))
        self.assertFalse(job.output_message_id)
