from odoo.tests import new_test_user

from .common import LlmGenerationCommon, posted, user_groups


class FarApi:
    """A provider far away: its one job is done at the third question."""

    def __init__(self):
        self.cancelled = []
        self.questions = 0
        self.failing = False

    def create_job(self, inputs):
        return f"far-{inputs['prompt'].replace(' ', '-')}"

    def get_job_status(self, external_id):
        self.questions += 1
        done = self.questions >= 3
        return {
            "completed": done and not self.failing,
            "failed": done and self.failing,
            "result": f"Result of {external_id}",
            "error": "The provider gave up.",
        }

    def cancel_job(self, external_id):
        self.cancelled.append(external_id)
        return True


class TestBriefExamples(LlmGenerationCommon):
    """What a developer would write after a first look at the addon."""

    def _types(self, events):
        return [event["type"] for event in events]

    # === BASIC USAGE === #

    def test_direct_generation(self):
        thread = self.env["llm.thread"].browse(self._create_thread(self.direct_model).id)
        events = []
        for event in thread.generate_response("What is the news?", use_queue=False):
            events.append(event)
        self.assertEqual(self._types(events)[0], "message_create")
        self.assertIn("Hello", str(events[-1]["message"]["body"]))
        self.assertFalse(thread.generation_job_ids)

    def test_queued_generation(self):
        thread = self.env["llm.thread"].browse(self._create_thread(self.direct_model).id)
        events = []
        for event in thread.generate_response("What is the news?", use_queue=True):
            events.append(event)
        self.assertEqual(events[-1]["type"], "done")
        self.assertEqual(events[-1]["job_id"], thread.generation_job_ids.id)
        self.assertEqual(thread.generation_job_ids.state, "completed")

    def test_auto_detection(self):
        self.service.answers["check"] = [posted("Hi")]
        for model, queued in ((self.native_model, True), (self.direct_model, False)):
            with self.subTest(model=model.name):
                thread = self.env["llm.thread"].browse(self._create_thread(model).id)
                events = list(thread.generate_response("What is the news?"))
                self.assertEqual(bool(thread.generation_job_ids), queued)
                self.assertEqual("job_status" in self._types(events), queued)
                self.assertEqual(events[-1]["type"] == "done", queued)

    # === QUEUE MANAGEMENT === #

    def test_queue_management(self):
        provider = self.native
        self._create_job("queued")
        self._create_job("queued")

        queue = self.env["llm.generation.queue"]._get_or_create_queue(provider.id)
        started = queue._process_provider_queue(provider)
        stats = queue.get_queue_stats()

        self.assertEqual(queue, self.queue)
        self.assertEqual(started, 2)
        self.assertEqual(stats["queue_id"], queue.id)
        self.assertEqual(stats["job_counts"]["running"], 2)
        self.assertEqual(stats["health"], "healthy")

    # === JOB MANAGEMENT === #

    def _follow_with_the_loop(self, job):
        states = []
        while job.state in ["queued", "running"]:
            job.check_status()
            states.append(job.state)
            self.assertLess(len(states), 20, "the loop does not end")
        return states

    def test_job_management_with_a_provider_that_runs_jobs(self):
        thread = self._create_thread(self.native_model)
        with self.enter_registry_test_mode():
            job = self.env["llm.generation.job"].create({
                "thread_id": thread.id,
                "provider_id": self.native.id,
                "model_id": self.native_model.id,
                "generation_inputs": {"prompt": "A red door"},
            })
            job.action_queue()
            self.service.answers["check"] = [
                {"state": "queued"},
                {"state": "running"},
                posted("Hi"),
            ]
            states = self._follow_with_the_loop(job)
        self.assertEqual(states[-1], "completed")
        self.assertIn("Hi", job.output_message_id.body)

    def test_job_management_with_a_provider_that_only_chats(self):
        thread = self._create_thread(self.direct_model)
        with self.enter_registry_test_mode():
            job = self.env["llm.generation.job"].create({
                "thread_id": thread.id,
                "generation_inputs": {"prompt": "A red door"},
            })
            job.action_queue()
            self._follow_with_the_loop(job)
        self.assertEqual(job.state, "completed", job.error_message)
        self.assertIn("A red door", job.input_message_id.body)

    def test_the_loop_ends_with_a_failure_too(self):
        job = self._create_job("queued")
        self.service.answers["check"] = [{"state": "failed", "error_message": "No."}]
        with self.enter_registry_test_mode():
            self._follow_with_the_loop(job)
        self.assertEqual((job.state, job.error_message), ("failed", "No."))

    def test_the_loop_says_to_commit_first(self):
        job = self._create_job("queued")
        self.assertIn("Commit first", self._refusal(self._follow_with_the_loop, job))

    # === PROVIDER IMPLEMENTATION === #

    def _far_provider(self, api):
        """Override the protocol for one provider, as a class that inherits it does."""
        mine = self.direct

        def create_generation_job(inherited, provider, job_record):
            if provider != mine:
                return inherited(provider, job_record)
            return api.create_job(job_record.generation_inputs)

        def check_generation_job_status(inherited, provider, job_record):
            if provider != mine:
                return inherited(provider, job_record)
            status = api.get_job_status(job_record.external_job_id)
            if status["completed"]:
                message = job_record.thread_id.message_post(
                    body=status["result"], llm_role="assistant", author_id=False
                )
                return {"state": "completed", "output_message_id": message.id}
            if status["failed"]:
                return {"state": "failed", "error_message": status["error"]}
            return {"state": "running"}

        def cancel_generation_job(inherited, provider, job_record):
            if provider != mine:
                return inherited(provider, job_record)
            return api.cancel_job(job_record.external_job_id)

        return self._protocol(
            create_generation_job=create_generation_job,
            check_generation_job_status=check_generation_job_status,
            cancel_generation_job=cancel_generation_job,
        )

    def _far_job(self):
        inputs = {"prompt": "A red door"}
        return self._create_job("queued", self.direct_model, generation_inputs=inputs)

    def test_a_provider_runs_a_job_to_its_end(self):
        api = FarApi()
        with self._far_provider(api), self.enter_registry_test_mode():
            job = self._far_job()
            states = self._follow_with_the_loop(job)
        self.assertEqual(states, ["running", "running", "completed"])
        self.assertEqual(job.external_job_id, "far-A-red-door")
        self.assertIn("Result of far-A-red-door", job.output_message_id.body)
        self.assertFalse(job.output_message_id.author_id)

    def test_a_provider_fails_a_job(self):
        api = FarApi()
        api.failing = True
        with self._far_provider(api), self.enter_registry_test_mode():
            job = self._far_job()
            self._follow_with_the_loop(job)
        self.assertEqual((job.state, job.error_message), ("failed", "The provider gave up."))

    def test_a_provider_cancels_a_job(self):
        api = FarApi()
        with self._far_provider(api):
            job = self._far_job()
            self._process_queue(self.direct)
            job.action_cancel()
        self.assertEqual(api.cancelled, ["far-A-red-door"])
        self.assertEqual(job.state, "cancelled")

    def test_the_thread_streams_the_events_of_such_a_provider(self):
        with self._far_provider(FarApi()):
            thread = self._create_thread(self.direct_model)
            events = list(thread.generate_response(inputs={"prompt": "A red door"}))
        self.assertEqual(events[-1]["type"], "done")
        self.assertIn("Result of", str(events[-1]["message"]["body"]))

    # === SECURITY === #

    def test_users_create_and_view_their_own_jobs(self):
        other = new_test_user(self.env, "generation_other", user_groups(self.env))
        thread = self._create_thread()
        job = self.env["llm.generation.job"].with_user(self.user).create({"thread_id": thread.id})
        jobs = self.env["llm.generation.job"]
        self.assertEqual(jobs.with_user(self.user).search([("id", "=", job.id)]), job)
        self.assertFalse(jobs.with_user(other).search([("id", "=", job.id)]))
        self.assertEqual(jobs.with_user(self.manager).search([("id", "=", job.id)]), job)
