from odoo import fields
from odoo.exceptions import AccessError

from .common import LlmGenerationCommon, posted


class TestWrittenAnswers(LlmGenerationCommon):
    """Providers that write their answer on the job, as those of the public family do."""

    def _checked(self, check, **values):
        job = self._create_job("queued", **values)
        self._process_queue()
        self.service.answers["check"] = [check]
        self.env["llm.generation.queue"]._check_job_statuses()
        return job

    def _written(self, state, said, **values):
        def check(job):
            message = job.thread_id.message_post(body="A picture", llm_role="assistant")
            job.write({
                "state": state,
                "completed_at": fields.Datetime.now(),
                "output_message_id": message.id,
                **values,
            })
            self.assertEqual((job.state, job.output_message_id), (state, message))
            return {"state": said}

        return check

    def test_what_is_written_is_the_answer(self):
        job = self._checked(self._written("completed", "completed"))
        self.assertEqual(job.state, "completed")
        self.assertIn("A picture", job.output_message_id.body)
        self.assertEqual(job.attempt_ids.mapped("outcome"), ["completed"])

    def test_a_failure_that_is_written_counts_whatever_is_returned(self):
        job = self._checked(self._written("failed", "completed", error_message="It is broken"))
        self.assertEqual((job.state, job.error_message), ("failed", "It is broken"))
        self.assertEqual(job.error_type, "provider_failed")

    def test_what_is_written_while_it_runs_leaves_it_running(self):
        job = self._checked(lambda job: job.write({"progress": 40}) and {"state": "running"})
        self.assertEqual((job.state, job.progress), ("running", 40))

    def test_a_failure_is_told_by_either_name(self):
        job = self._checked({"state": "failed", "error": "Lost"})
        self.assertEqual((job.state, job.error_message), ("failed", "Lost"))

    def test_of_another_job_nothing_is_written(self):
        other = self._create_job("queued")
        other.scheduled_at = "2999-01-01 00:00:00"

        def check(job):
            self._refusal(job.browse(other.id).write, {"state": "completed"}, error=AccessError)
            return posted("Hi")(job)

        job = self._checked(check)
        self.assertEqual((job.state, other.state), ("completed", "queued"))

    def test_an_answer_of_an_overtaken_attempt_writes_nothing(self):
        def check(job):
            self.env["llm.generation.job"].browse(job.id).action_cancel()
            return self._written("completed", "completed")(job)

        job = self._checked(check)
        self.assertEqual(job.state, "cancelled")

    def test_inputs_are_prepared_when_they_are_executed(self):
        def prepare(thread, inputs, attachment_ids=None):
            return {**inputs, "thread_id": thread.id, "name": thread.name}

        seen = []
        self.service.answers["create"] = [lambda job: seen.append(job.get_prepared_inputs()) or "x"]
        with self._offered("llm.thread", prepare_generation_inputs=prepare):
            job = self._create_job("queued", generation_inputs={"prompt": "Hi"})
            job.thread_id.name = "Renamed"
            self._process_queue()
        self.assertEqual(seen, [{"prompt": "Hi", "thread_id": job.thread_id.id, "name": "Renamed"}])
        self.assertEqual(job.generation_inputs, {"prompt": "Hi"})
