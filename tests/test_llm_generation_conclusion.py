import errno
from pathlib import Path
from unittest.mock import patch

import psycopg2
from psycopg2.pool import PoolError

from odoo.tools import mute_logger

from ..protocol.answer import Answer
from ..runner.cursor import is_away
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

    def test_an_answer_waits_for_as_long_as_the_database_is_away(self):
        job = self._create_job("queued")
        pairs = [(self._claim(job), Answer("completed"))]
        engine = self.env["llm.generation.engine"]
        for error in (PoolError(), psycopg2.OperationalError()):
            with (
                patch.object(type(engine), "_apply", side_effect=error),
                patch("time.sleep"),
                mute_logger("odoo.addons.llm_generate_job.engine.complete"),
            ):
                self.assertEqual(engine._complete_batch(pairs), pairs)
        self.assertEqual(engine._complete_batch(pairs), [])
        self.assertEqual(job.state, "completed")

    def test_a_database_that_takes_no_writes_is_away(self):
        self.assertTrue(is_away(psycopg2.errors.ReadOnlySqlTransaction()))
        recovery = "cannot set transaction read-write mode during recovery"
        self.assertTrue(is_away(psycopg2.errors.FeatureNotSupported(recovery)))
        self.assertFalse(is_away(psycopg2.errors.FeatureNotSupported("anything else")))

    def test_what_was_not_asked_costs_no_retry(self):
        engine = type(self.env["llm.generation.engine"])
        job = self._create_job("queued")
        with patch.object(engine, "_recall", side_effect=PoolError()):
            self._process_queue()
        self.assertEqual((job.state, job.retry_count), ("queued", 0))
        self.assertTrue(job.is_scheduled, "others come before it")
        self.service.answers["create"] = [PoolError()]
        job = self._create_job("queued")
        self._process_queue()
        self.assertEqual((job.state, job.error_type), ("failed", "unknown_outcome"))


class TestFilesOfAnswers(LlmGenerationCommon):
    """An answer that came with a file is not thrown away for a lack of room."""

    CONTENT = b"A picture that was paid for"

    def _answer(self, job):
        message = job.thread_id.message_post(
            body="Here it is",
            llm_role="assistant",
            author_id=False,
            attachments=[("picture.txt", self.CONTENT)],
        )
        return {"state": "completed", "output_message_id": message.id}

    def _disk_full(self, times):
        base = next(
            cls
            for cls in type(self.env["ir.attachment"]).mro()
            if cls.__module__ == "odoo.addons.base.models.ir_attachment"
            and "_file_write" in vars(cls)
        )
        write, left = base._file_write, [errno.ENOSPC] * times

        def full(attachment, bin_value, checksum):
            _name, path = attachment._get_path(bin_value, checksum)
            if left:
                Path(path).write_bytes(bin_value[:7])
                raise OSError(left.pop(), "No space left on device")
            return write(attachment, bin_value, checksum)

        return patch.object(base, "_file_write", full)

    def _run(self, times):
        self.service.answers["create"] = [self._answer]
        job = self._create_job("queued")
        with (
            self._disk_full(times),
            patch("time.sleep") as sleep,
            mute_logger("odoo.addons.llm_generate_job.models.ir_attachment"),
        ):
            self._process_queue()
        return job, sleep.call_count

    def test_it_waits_for_room(self):
        job, waits = self._run(3)
        self.assertEqual((job.state, len(job.attempt_ids), waits), ("completed", 1, 3))
        self.assertEqual(job.output_message_id.attachment_ids.raw, self.CONTENT)
        self.assertEqual(self.service.calls["create"], [job.id])

    def test_it_does_not_wait_for_ever(self):
        job, _waits = self._run(1000)
        self.assertEqual((job.state, job.error_type), ("failed", "unknown_outcome"))

    def test_who_can_be_asked_again_is(self):
        self.service.answers["check"] = [self._answer]
        job = self._create_job("queued")
        self._process_queue()
        with self._disk_full(1), patch("time.sleep") as sleep:
            self.env["llm.generation.queue"]._check_job_statuses()
        self.assertEqual((job.state, sleep.call_count), ("running", 0))
        self.env["llm.generation.queue"]._check_job_statuses()
        self.assertEqual(job.state, "completed")
        self.assertEqual(job.output_message_id.attachment_ids.raw, self.CONTENT)
