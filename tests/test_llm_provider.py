from odoo.exceptions import AccessError

from ..exceptions import BadRequestError
from ..models.llm_provider import MOST_CALLS
from ..runner.executor import CallRecorder
from .common import LlmGenerationCommon, posted
from .rights import has_table


class TestLlmProvider(LlmGenerationCommon):
    """Both ways of implementing the protocol, and none."""

    def _own(self, provider):
        """Return methods that serve one provider, as an override with `super()` does."""
        calls = []

        def create(inherited, this, job):
            calls.append("create")
            return f"own-{job.id}" if this == provider else inherited(this, job)

        def check(inherited, this, job):
            calls.append("check")
            if this != provider:
                return inherited(this, job)
            return posted("Hi from an override")(job)

        def cancel(inherited, this, job):
            calls.append("cancel")
            return True if this == provider else inherited(this, job)

        methods = {
            "create_generation_job": create,
            "check_generation_job_status": check,
            "cancel_generation_job": cancel,
        }
        return self._protocol(**methods), calls

    def test_a_model_that_calls_tools_without_end_is_asked_no_more(self):
        """Not each family counts the turns of an answer."""
        provider = self.direct.with_context(generation_recorder=CallRecorder())
        for _turn in range(MOST_CALLS):
            self.assertTrue(list(provider.chat([], stream=True)))
        with self.assertRaisesRegex(BadRequestError, "without an end"):
            provider.chat([], stream=True)
        self.assertEqual(len(self.service.calls["chat"]), MOST_CALLS)

    def test_methods_named_after_the_service_are_found(self):
        job = self._create_job("queued")
        self._process_queue()
        self.assertEqual(job.external_job_id, "ext-1")
        self.service.answers["check"] = [posted("Hi")]
        job.check_status()
        self.assertEqual(job.state, "completed")

    def test_overridden_methods_are_used(self):
        protocol, calls = self._own(self.direct)
        with protocol:
            job = self._create_job("queued", self.direct_model)
            self._process_queue(self.direct)
            self.assertEqual((job.state, job.external_job_id), ("running", f"own-{job.id}"))
            job.check_status()
            self.assertEqual(job.state, "completed")
            self.assertIn("Hi from an override", job.output_message_id.body)
        self.assertEqual(calls, ["create", "check"])
        self.assertFalse(self.service.calls["chat"])

    def test_an_override_cancels_at_the_provider(self):
        protocol, calls = self._own(self.direct)
        with protocol:
            job = self._create_job("queued", self.direct_model)
            self._process_queue(self.direct)
            job.action_cancel()
        self.assertEqual(calls, ["create", "cancel"])

    def test_an_override_leaves_other_services_alone(self):
        protocol, _calls = self._own(self.direct)
        with protocol:
            job = self._create_job("queued", self.native_model)
            self._process_queue()
            self.assertEqual(job.external_job_id, "ext-1")
            self.assertTrue(self.native.cancel_generation_job(job))
            self.assertTrue(self.service.calls["cancel"])

    def test_an_override_may_leave_others_to_direct_generation(self):
        protocol, _calls = self._own(self.native)
        with protocol:
            job = self._create_thread(self.direct_model).enqueue_generation("How are you?")
            self._process_queue(self.direct)
        self.assertEqual(job.state, "completed", job.error_message)
        self.assertEqual(len(self.service.calls["chat"]), 1)

    def test_a_provider_without_the_protocol_is_served_directly(self):
        job = self._create_thread(self.direct_model).enqueue_generation("How are you?")
        self._process_queue(self.direct)
        self.assertEqual(job.state, "completed", job.error_message)
        self.assertIn("Hello", job.output_message_id.body)

    def test_cancelling_answers_with_a_boolean(self):
        job = self._create_job("running")
        for answer, expected in ((True, True), (False, False), (None, False), ("yes", True)):
            with self.subTest(answer=answer):
                self.service.answers["cancel"] = [answer]
                self.assertIs(self.native.cancel_generation_job(job), expected)
        self.assertIs(self.direct.cancel_generation_job(job), False)

    # === QUEUE INFO === #

    def test_the_info_tells_what_the_provider_offers(self):
        info = self.native.get_generation_queue_info()
        self.assertEqual(
            info,
            {
                "max_concurrent_jobs": 5,
                "current_queue_size": 0,
                "estimated_wait_time": 0,
                "supports_streaming": False,
                "supports_cancellation": True,
                "supports_jobs": True,
            },
        )
        info = self.direct.get_generation_queue_info()
        self.assertEqual(
            (info["supports_streaming"], info["supports_cancellation"], info["supports_jobs"]),
            (True, True, False),
        )

    def test_the_info_tells_how_long_the_line_is(self):
        self.queue.max_concurrent_jobs = 2
        self.env["llm.generation.job"].create({
            "thread_id": self._create_thread().id,
            "state": "completed",
            "duration": 10,
        })
        for _job in range(3):
            self._create_job("queued")
        info = self.native.get_generation_queue_info()
        self.assertEqual((info["max_concurrent_jobs"], info["current_queue_size"]), (2, 3))
        self.assertEqual(info["estimated_wait_time"], 20)

    def test_the_info_is_for_users_too(self):
        info = self.native.with_user(self.user).get_generation_queue_info()
        self.assertTrue(info["supports_jobs"])

    def test_the_info_is_not_for_other_companies(self):
        self._needs(has_table("llm"), "with rules of companies")
        company = self.env["res.company"].create({"name": "Elsewhere"})
        self.native.company_id = company
        with self.assertRaises(AccessError):
            self.native.with_user(self.user).get_generation_queue_info()

    def test_an_override_offers_jobs(self):
        self.assertFalse(self.direct._implements("create_generation_job"))
        protocol, _calls = self._own(self.direct)
        with protocol:
            self.assertTrue(self.direct._implements("create_generation_job"))
            self.assertTrue(self._create_thread(self.direct_model)._should_queue_generation())

    def test_a_provider_may_tell_for_itself(self):
        info = {"supports_jobs": True, "max_concurrent_jobs": 1}
        with self._offered(fakedirect_get_generation_queue_info=lambda _provider: info):
            self.assertEqual(self.direct.get_generation_queue_info(), info)
            self.assertTrue(self._create_thread(self.direct_model)._should_queue_generation())
