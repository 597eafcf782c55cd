from .common import API_KEY, LlmAcmeCommon


class TestLlmProvider(LlmAcmeCommon):
    def _submitted_job(self, **values):
        job = self._create_job("queued", model=self.model, **values)
        self._process_queue(self.provider)
        return job

    def _check(self, state):
        self.remote.state = state
        self._engine()._check_due()

    def test_inputs_are_sent_with_the_model_and_the_key(self):
        self._submitted_job(generation_inputs={"prompt": "Name an island.", "n": 2})

        (request,) = self.remote.requests
        self.assertEqual((request.method, request.path), ("POST", "/jobs"))
        self.assertEqual(request.headers["authorization"], f"Bearer {API_KEY}")
        self.assertEqual(
            request.json, {"model": self.model.name, "prompt": "Name an island.", "n": 2}
        )

    def test_inputs_have_nothing_that_is_not_for_users(self):
        for name in ("model", "tools", "previous_id"):
            job = self._submitted_job(generation_inputs={"prompt": "Hi", name: "x"})

            self.assertEqual((job.state, job.error_type), ("failed", "bad_request"))
            self.assertIn(f"The inputs cannot have {name}.", job.error_message)
        self.assertFalse(self.remote.requests)

    def test_a_question_is_sent_as_text(self):
        thread = self._create_thread(self.model)
        thread.enqueue_generation("Name an island.")
        self._process_queue(self.provider)

        self.assertEqual(self.remote.requests[0].json["prompt"], "Name an island.")

    def test_progress_and_usage_are_noted(self):
        job = self._submitted_job()

        self._check("running")
        self.assertEqual((job.state, job.progress), ("running", 40))

        self._check("completed")
        self.assertEqual((job.prompt_tokens, job.completion_tokens), (5, 3))

    def test_the_reason_of_a_failure_is_kept(self):
        job = self._submitted_job()

        self._check("failed")

        self.assertEqual(job.state, "failed")
        self.assertIn("It broke.", job.error_message)

    def test_a_job_that_is_gone_has_failed_and_cannot_be_stopped(self):
        job = self._submitted_job()
        self.remote.known.clear()

        self.assertFalse(self.provider.cancel_generation_job(job))
        self._check("running")

        self.assertEqual((job.state, job.error_type), ("failed", "provider_failed"))

    def test_an_id_does_not_lead_to_another_address(self):
        job = self._submitted_job()
        job.external_job_id = "../keys?all"

        self._check("running")

        self.assertEqual(self.remote.requests[-1].path, "/jobs/..%2Fkeys%3Fall")
