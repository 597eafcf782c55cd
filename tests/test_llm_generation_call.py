import asyncio
from unittest.mock import patch

from odoo import Command
from odoo.exceptions import AccessError
from odoo.tools import mute_logger

from ..exceptions import BadRequestError, ProviderFailedError, TransientError
from ..protocol.answer import Answer
from ..runner.cursor import InlineCursor
from ..runner.executor import Execution
from .common import LlmGenerationCommon, posted
from .rights import has_table

LOGGER = "odoo.addons.llm_generate_job.engine.execute"


class TestLlmGenerationCall(LlmGenerationCommon):
    """Providers that run jobs of their own."""

    def _submitted(self, **values):
        job = self._create_job("queued", **values)
        self._process_queue()
        return job

    def _check(self):
        return self.env["llm.generation.queue"]._check_job_statuses()

    def test_bytes_that_are_no_text_are_unreadable(self):
        odd = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
        self.service.answers["create"] = [odd]
        job = self._submitted()
        self.assertEqual((job.state, job.error_type), ("failed", "unreadable"))
        self.assertFalse(job.retry_at)
        self.service.answers = {"create": ["ext-1"], "check": [odd]}
        job = self._submitted()
        self._check()
        self.assertEqual((job.state, job.error_type), ("running", False))

    def test_what_would_end_a_thread_ends_the_job_only(self):
        for end in (SystemExit(), asyncio.CancelledError(), KeyboardInterrupt()):
            with mute_logger(LOGGER, "odoo.addons.llm_generate_job.engine.maintain"):
                self.service.answers = {"create": [end], "check": [end], "cancel": [end]}
                job = self._submitted()
                self.assertEqual((job.state, job.error_type), ("failed", "internal"))
                self.service.answers["create"] = ["ext-1"]
                job = self._submitted()
                self._check()
                self.assertEqual((job.state, job.error_type), ("failed", "internal"))
            with mute_logger("odoo.addons.llm_generate_job.engine.maintain"):
                job = self._submitted()
                job.action_cancel()
                self.assertEqual(job.state, "cancelled")
            self.service.chunks = [{"content": "Hel"}, end]
            with mute_logger(LOGGER):
                job = self._create_job("queued", self.direct_model)
                self._process_queue(self.direct)
            self.assertEqual((job.state, job.error_type), ("failed", "internal"))

    def test_a_job_is_submitted_once_an_attempt(self):
        job = self._submitted()
        self.assertRecordValues(job, [{"state": "running", "external_job_id": "ext-1"}])
        self._process_queue()
        self._check()
        self._check()
        self.assertEqual(self.service.calls["create"], [job.id])

    def test_accepted_by_the_provider_is_running(self):
        job = self._submitted()
        self.service.answers["check"] = [{"state": "queued"}]
        self.assertEqual(self._check(), 1)
        self.assertEqual(self._process_queue(), 0)
        self.assertEqual(job.state, "running")
        self.assertEqual(len(self.service.calls["create"]), 1)

    def test_an_answer_that_comes_at_once_ends_the_job(self):
        self.service.answers["create"] = [posted("Hi", usage={"prompt_tokens": 2})]
        job = self._submitted()
        self.assertRecordValues(job, [{"state": "completed", "prompt_tokens": 2}])
        self.assertIn("Hi", job.output_message_id.body)
        self.assertFalse(self.service.calls["check"])

    def test_a_poll_brings_what_the_provider_tells(self):
        job = self._submitted()
        data = {"logs": ["one", "two"]}
        self.service.answers["check"] = [
            {"state": "running", "progress": 30, "provider_data": data, "poll_after": 7}
        ]
        self._check()
        self.assertRecordValues(job, [{"state": "running", "progress": 30, "provider_data": data}])

    def test_the_end_at_the_provider_is_the_end_here(self):
        for answer, state in (
            (posted("Hi"), "completed"),
            ({"state": "completed"}, "completed"),
            ({"state": "failed", "error_message": "No", "error_type": "bad_request"}, "failed"),
            ({"state": "cancelled"}, "cancelled"),
        ):
            with self.subTest(state=state):
                job = self._submitted()
                self.service.answers["check"] = [answer]
                self._check()
                self.assertEqual(job.state, state)

    def test_what_the_provider_cancelled_is_not_cancelled_there(self):
        self._submitted()
        self.service.answers["check"] = [{"state": "cancelled"}]
        self._check()
        self.assertFalse(self.service.calls["cancel"])

    def test_a_question_that_fails_says_nothing_about_the_job(self):
        job = self._submitted()
        self.service.answers["check"] = [TransientError("503"), posted("Hi")]
        self._check()
        self.assertEqual(job.state, "running")
        self._check()
        self.assertEqual(job.state, "completed")

    def test_a_job_that_the_provider_has_lost_fails(self):
        job = self._submitted()
        self.service.answers["check"] = [BadRequestError("No such job")]
        self._check()
        self.assertEqual((job.state, job.error_message), ("failed", "No such job"))

    def test_a_cancelled_job_is_cancelled_at_the_provider(self):
        job = self._submitted()
        job.action_cancel()
        self.assertEqual(self.service.calls["cancel"], [job.id])
        self._check()
        self.assertEqual(self.service.calls["cancel"], [job.id])

    def test_a_job_that_never_reached_the_provider_is_not_cancelled_there(self):
        self._create_job("queued").action_cancel()
        self._create_job("running").action_cancel()
        self.assertFalse(self.service.calls["cancel"])

    def test_a_provider_that_cannot_cancel_is_no_obstacle(self):
        for refusal in (False, None, BadRequestError("Too late"), ValueError("A bug")):
            with self.subTest(refusal=refusal):
                self.service.answers["cancel"] = [refusal]
                job = self._submitted()
                if isinstance(refusal, Exception):
                    with self.assertLogs("odoo.addons.llm_generate_job", "WARNING"):
                        job.action_cancel()
                else:
                    job.action_cancel()
                self.assertEqual(job.state, "cancelled")

    def test_a_provider_finds_one_thing_of_the_engine_in_its_context(self):
        seen = []
        self.service.answers["create"] = [lambda job: seen.append(job.env.context) or "ext-1"]
        self._submitted()
        (context,) = seen
        ours = {name for name in context if name.startswith("generation_")}
        self.assertEqual(ours, {"generation_recorder"})

    def test_who_hangs_up_on_a_call_is_told_of_its_responses(self):
        seen = []
        self.service.answers["create"] = [
            lambda job: seen.append(job.env.context["llm_on_response"]) or "ext-1"
        ]
        self._create_job("queued")
        ((claim,), _waits) = self._engine()._claim(1, queue_ids=self.queue.ids)
        (job_context,) = self._engine()._prefetch([claim])
        execution = Execution(claim)
        self._engine()._run(job_context, execution=execution)
        self.assertEqual(seen, [execution.on_response])

    def test_an_answer_with_nothing_to_commit_is_handed_over(self):
        job, told = self._create_job("queued"), []
        ((claim,), _waits) = self._engine()._claim(1, queue_ids=self.queue.ids)
        (job_context,) = self._engine()._prefetch([claim])
        with patch.object(InlineCursor, "in_transaction", False, create=True):
            self._engine()._run(job_context, complete=lambda *pair: told.append(pair))
        ((told_of, answer),) = told
        self.assertEqual((told_of, answer.state), (claim, "running"))
        self.assertFalse(job.external_job_id)
        self.assertFalse(self._engine()._complete_batch(told))
        self.assertTrue(job.external_job_id)

    def test_a_retry_ends_the_earlier_try_at_the_provider_first(self):
        ended = []
        self.service.answers["cancel"] = [lambda job: ended.append(job.external_job_id)]
        job = self._submitted()
        job._set_state("failed", error_type="timeout")
        self.service.answers["create"] = ["ext-2"]
        job.action_retry()
        self._process_queue()
        self.assertEqual(ended, ["ext-1"])
        self.assertEqual((job.state, job.external_job_id), ("running", "ext-2"))
        self.assertEqual(job.attempt_ids.mapped("external_job_id"), ["ext-2", "ext-1"])

    def test_a_try_that_failed_at_the_provider_needs_no_end(self):
        job = self._submitted()
        self.service.answers["check"] = [{"state": "failed"}]
        self._check()
        job.action_retry()
        self._process_queue()
        self.assertFalse(self.service.calls["cancel"])

    def test_a_retry_is_submitted_though_the_earlier_try_cannot_be_ended(self):
        job = self._submitted()
        job._set_state("failed", error_type="timeout")
        self.service.answers["cancel"] = [BadRequestError("No such job")]
        self.service.answers["create"] = ["ext-2"]
        job.action_retry()
        with self.assertLogs("odoo.addons.llm_generate_job", "WARNING"):
            self._process_queue()
        self.assertEqual((job.state, job.external_job_id), ("running", "ext-2"))

    def test_the_earlier_try_is_not_asked_about_while_a_retry_is_submitted(self):
        job = self._submitted()
        self.service.answers["check"] = [{"state": "failed"}]
        self._check()
        job.action_retry()
        self._claim(job)
        self.assertEqual(self._check(), 0)
        self.assertIs(job.check_status(), False)
        self.assertEqual(job.state, "running")

    # === RIGHTS === #

    def test_nothing_runs_in_the_name_of_who_was_archived(self):
        job = self._create_job("queued")
        self.user.active = False
        self._process_queue()
        self.assertEqual((job.state, job.error_type), ("failed", "access"))
        self.assertIn("was archived", job.error_message)
        self.assertFalse(self.service.calls["create"])

    def test_nothing_runs_for_who_lost_the_thread(self):
        job = self._create_job("queued")
        job.thread_id.sudo().user_id = self.manager
        self._process_queue()
        self.assertEqual((job.state, job.error_type), ("failed", "access"))
        self.assertRegex(job.error_message, "may no longer use this .*Thread")
        self.assertFalse(self.service.calls["create"])

    def test_nothing_runs_for_who_lost_the_provider(self):
        self._needs(has_table("llm"), "with rules of companies")
        company = self.env["res.company"].create({"name": "Elsewhere"})
        job = self._create_job("queued")
        self.native.company_id = company
        self._process_queue()
        self.assertEqual((job.state, job.error_type), ("failed", "access"))

    def test_a_provider_that_is_refused_by_odoo_ends_the_job(self):
        self.service.answers["create"] = [AccessError("You cannot read this attachment.")]
        job = self._submitted()
        self.assertEqual((job.state, job.error_type), ("failed", "access"))

    def test_what_a_failing_provider_wrote_is_undone(self):
        def write_and_fail(job):
            job.thread_id.message_post(body="Half an answer", llm_role="assistant")
            raise ProviderFailedError

        self.service.answers["create"] = [write_and_fail]
        job = self._submitted()
        self.assertEqual(job.state, "failed")
        self.assertFalse(job.thread_id.message_ids.filtered("llm_role"))

    def test_an_owner_who_left_with_their_company_is_told_of_so(self):
        job = self._create_job("queued")
        company = self.env["res.company"].create({"name": "Closed"})
        self.user.write({"company_ids": [Command.set(company.ids)], "company_id": company.id})
        self.user.active = False
        company.active = False
        [job_context] = self._engine()._prefetch([self._claim(job)])
        self.assertIn("was archived", job_context.refusal)

    def test_a_rule_that_fails_refuses_the_jobs_of_its_user_only(self):
        other = self.user.copy()
        jobs = [self._create_job("queued"), self._create_job("queued", user=other)]
        claims = [self._claim(job) for job in jobs]
        Thread, allowed = type(self.env["llm.thread"]), self.user

        def filtered(records, operation):
            if records.env.user != allowed:
                raise ValueError
            return filtered.original(records, operation)

        filtered.original = Thread._filtered_access
        broken = patch.object(Thread, "_filtered_access", filtered)
        with broken, self.assertLogs("odoo.addons.llm_generate_job.engine.claim", "ERROR"):
            told = self._engine()._prefetch(claims)
        self.assertEqual([bool(one.refusal) for one in told], [False, True])

    def test_a_job_that_was_deleted_meanwhile_is_no_trouble(self):
        job = self._create_job("queued")
        claim = self._claim(job)
        self.env.cr.execute("DELETE FROM llm_generation_job WHERE id = %s", [job.id])
        self.env.invalidate_all()
        self.assertFalse(self._engine()._prefetch([claim]))


class TestLyingProviders(LlmGenerationCommon):
    """Whatever a provider says, its job ends with a sentence, or goes on."""

    def _failed_by(self, what, lie):
        self.service.answers[what] = [lie]
        job = self._create_job("queued")
        self._process_queue()
        if what == "check":
            job.check_status()
        return job

    def test_no_id_is_no_acceptance(self):
        for lie in (None, False, "", 0):
            with self.subTest(lie=lie):
                job = self._failed_by("create", lie)
                self.assertEqual((job.state, job.error_type), ("failed", "provider_failed"))
                self.assertIn("without an id", job.error_message)

    def test_an_id_may_be_a_number(self):
        self.assertEqual(self._failed_by("create", 12345).external_job_id, "12345")

    def test_an_answer_that_is_none_fails_the_job(self):
        for lie in ({"state": "starting"}, {}, None, True, ["completed"], {"state": ["done"]}):
            with self.subTest(lie=lie):
                job = self._failed_by("check", lie)
                self.assertEqual((job.state, job.error_type), ("failed", "provider_failed"))
                self.assertIn("unknown state", job.error_message)

    def test_a_message_that_is_none_of_the_thread_is_not_taken(self):
        foreign = self._create_thread(user=self.manager).message_post(body="Secret")
        for lie in (2**31 - 1, 2**70, "12", foreign.id, foreign):
            with self.subTest(lie=lie):
                job = self._failed_by("check", {"state": "completed", "output_message_id": lie})
                self.assertFalse(job.output_message_id)
                self.assertIn(job.state, {"completed", "failed"})

    def test_odd_values_beside_a_state_are_ignored(self):
        for lie in (
            {"progress": "lots"},
            {"progress": -5},
            {"provider_data": "text"},
            {"provider_data": {"x": float("nan")}},
            {"usage": {"prompt_tokens": "7"}},
            {"poll_after": float("inf")},
            {"expires_in": 1e300},
            {"error_type": "gremlins"},
            {"error_message": 404},
            {"error_message": "NUL \x00"},
        ):
            with self.subTest(lie=lie):
                job = self._failed_by("check", {"state": "running", **lie})
                self.assertEqual(job.state, "running")
                self.service.answers["check"] = [{"state": "failed", **lie}]
                job.check_status()
                self.assertEqual(job.state, "failed")

    def test_endless_waits_end(self):
        for wait in (float("inf"), float("nan"), 1e300, "soon"):
            with self.subTest(wait=wait):
                job = self._failed_by(
                    "check", {"state": "failed", "error_type": "overloaded", "retry_after": wait}
                )
                self.assertEqual(job.state, "queued")
                job.action_cancel()

    @mute_logger("odoo.sql_db")
    def test_what_cannot_be_stored_ends_the_job(self):
        def write_nonsense(job):
            message = job.thread_id.sudo().message_post(body="Hi", llm_role="assistant")
            message.parent_id = 2**31 - 1
            usage = {"prompt_tokens": 7, "completion_tokens": 3}
            return {"state": "completed", "output_message_id": message, "usage": usage}

        with self.assertLogs(LOGGER, "ERROR"):
            job = self._failed_by("check", write_nonsense)
        self.assertEqual((job.state, job.error_type), ("failed", "internal"))
        self.assertEqual((job.prompt_tokens, job.completion_tokens), (7, 3))  # it is paid for
        self.assertFalse(job.thread_id.message_ids.filtered("llm_role"))

    def test_what_an_answer_used_that_cannot_be_stored_is_kept(self):
        answer = Answer("completed", usage={"prompt_tokens": 7, "completion_tokens": 3})
        for store in ("_complete_or_fail", "_complete_batch"):
            with self.subTest(store=store):
                job = self._create_job("queued")
                claim, engine = self._claim(job), self._engine()
                effects = [ValueError, None]  # the second time, no job is completed
                success = patch.object(type(engine), "_apply_success", side_effect=effects)
                with (
                    self.assertLogs("odoo.addons.llm_generate_job", "ERROR"),
                    success,
                    engine._transaction() as call,
                ):
                    if store == "_complete_batch":
                        call._complete_batch([(claim, answer)])
                    else:
                        call._complete_or_fail(claim, answer, polling=False)
                self.assertRecordValues(
                    job,
                    [
                        {
                            "state": "failed",
                            "error_type": "internal",
                            "prompt_tokens": 7,
                            "completion_tokens": 3,
                        }
                    ],
                )

    def test_an_exception_that_cannot_be_stored_still_ends_the_job(self):
        with self.assertLogs(LOGGER, "ERROR"):
            job = self._failed_by("create", ValueError("NUL \x00 and \ud800"))
        self.assertEqual((job.state, job.error_type), ("failed", "internal"))
        self.env.flush_all()
