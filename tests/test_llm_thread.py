from datetime import timedelta
from unittest.mock import patch

from odoo import fields
from odoo.exceptions import AccessError
from odoo.tests import Form

from .common import LlmGenerationCommon, posted


class TestLlmThread(LlmGenerationCommon):
    def _questions(self, thread):
        return thread.message_ids.filtered(lambda message: message.llm_role == "user")

    # === GENERATE RESPONSE === #

    def test_without_a_queue_it_is_the_direct_generation(self):
        thread = self._create_thread(self.direct_model)
        events = list(thread.generate_response("How are you?", use_queue=False))
        self.assertFalse(thread.generation_job_ids)
        self.assertEqual(events[0]["type"], "message_create")
        self.assertIn("Hello", str(events[-1]["message"]["body"]))

    def test_generate_goes_on_as_before(self):
        thread = self._create_thread(self.direct_model)
        direct = [event["type"] for event in thread.generate("How are you?")]
        again = self._create_thread(self.direct_model)
        response = again.generate_response("How are you?", use_queue=False)
        self.assertEqual([event["type"] for event in response], direct)
        self.assertFalse((thread | again).generation_job_ids)

    def test_with_a_queue_it_makes_one_job_and_one_question(self):
        thread = self._create_thread(self.direct_model)
        events = list(thread.generate_response("How are you?", use_queue=True))
        self.assertEqual(thread.generation_job_ids.state, "completed")
        self.assertEqual(len(self._questions(thread)), 1)
        self.assertEqual(events[-1]["type"], "done")

    def test_nothing_happens_before_the_first_event_is_asked_for(self):
        thread = self._create_thread(self.direct_model)
        thread.generate_response("How are you?", use_queue=True)
        self.assertFalse(thread.generation_job_ids)

    # === THE RULE === #

    def test_a_provider_with_jobs_of_its_own_is_queued(self):
        self.assertTrue(self._create_thread(self.native_model)._should_queue_generation())

    def test_a_provider_at_rest_answers_directly(self):
        self.assertFalse(self._create_thread(self.direct_model)._should_queue_generation())

    def test_a_queue_that_takes_everything_does(self):
        self.direct_queue.always_queue = True
        self.assertTrue(self._create_thread(self.direct_model)._should_queue_generation())

    def test_a_busy_provider_is_queued(self):
        thread = self._create_thread(self.direct_model)
        for _job in range(2):
            self._create_job("queued", self.direct_model)
        self.direct_queue.invalidate_recordset()
        self.assertFalse(thread._should_queue_generation())
        self._create_job("running", self.direct_model)
        self.direct_queue.invalidate_recordset()
        self.assertTrue(thread._should_queue_generation())
        self.direct_queue.enabled = False
        self.assertFalse(thread._should_queue_generation())

    def test_whether_to_queue_is_known_without_the_figures_of_a_day(self):
        thread = self._create_thread(self.direct_model)
        for _job in range(3):
            self._create_job("running", self.direct_model)
        with patch.object(type(self._engine()), "_statistics") as statistics:
            self.assertTrue(thread._should_queue_generation())
        statistics.assert_not_called()

    def test_what_waits_for_its_date_makes_nobody_wait(self):
        thread = self._create_thread(self.direct_model)
        tomorrow = fields.Datetime.now() + timedelta(days=1)
        for _job in range(5):
            self._create_job("queued", self.direct_model, scheduled_at=tomorrow)
        self.assertFalse(thread._should_queue_generation())
        info = self.direct.get_generation_queue_info()
        self.assertEqual((info["current_queue_size"], info["estimated_wait_time"]), (0, 0))

    def test_the_rule_decides_when_nobody_does(self):
        for rule in (True, False):
            with (
                self.subTest(rule=rule),
                self._offered(
                    "llm.thread", _should_queue_generation=lambda _thread, rule=rule: rule
                ),
            ):
                thread = self._create_thread(self.direct_model)
                list(thread.generate_response("How are you?"))
                self.assertEqual(bool(thread.generation_job_ids), rule)

    # === WHAT NOBODY READS === #

    def test_messages_of_a_conversation_have_no_address_for_replies(self):
        thread = self._create_thread(self.direct_model)
        list(thread.generate_response("How are you?", use_queue=True))
        said = thread.message_ids.filtered("llm_role")
        self.assertEqual(said.mapped("reply_to"), [False, False])
        self.assertTrue(thread.message_post(body="A note among people").reply_to)

    def test_a_job_makes_no_picture_of_its_messages_and_who_follows_it_gets_one(self):
        thread, store = self._create_thread(self.direct_model), type(self.env["mail.message"])
        ours = not hasattr(thread, "_generate_assistant_response")
        self._needs(ours, "whose events can be asked for less")
        job, made = thread.enqueue_generation("How are you?"), []
        whole = store.to_store_format

        def spy(message):
            made.append(message.id)
            return whole(message)

        with patch.object(store, "to_store_format", spy):
            self._process_queue(self.direct)
            self.assertEqual((job.state, made), ("completed", []))
            direct = [event for event in thread.generate("And you?") if event.get("message")]
            self.assertIn("Hello", direct[-1]["message"]["body"])
            self.assertTrue(made)

    # === ENQUEUE === #

    def test_enqueueing_waits_for_nothing(self):
        thread = self._create_thread()
        job = thread.enqueue_generation("How are you?", priority=13)
        self.assertRecordValues(
            job,
            [
                {
                    "state": "queued",
                    "priority": 13,
                    "thread_id": thread.id,
                    "user_id": self.user.id,
                    "generation_inputs": False,
                }
            ],
        )
        self.assertEqual(self._questions(thread), job.input_message_id)
        self.assertFalse(self.service.calls["create"])

    def test_enqueueing_commits_nothing(self):
        # A commit inside a test raises; a rollback must leave nothing.
        thread = self._create_thread()
        savepoint = self.env.cr.savepoint()
        job = thread.enqueue_generation("How are you?", inputs={"prompt": "Hi"})
        job_id, message_id = job.id, job.input_message_id.id
        savepoint.close(rollback=True)
        self.env.invalidate_all(flush=False)
        self.assertFalse(self.env["llm.generation.job"].browse(job_id).exists())
        self.assertFalse(self.env["mail.message"].browse(message_id).exists())

    def test_inputs_alone_are_enough(self):
        thread = self._create_thread()
        job = thread.enqueue_generation(inputs={"prompt": "A cat"})
        self.assertEqual(job.generation_inputs, {"prompt": "A cat"})
        self.assertFalse(job.input_message_id)

    def test_there_must_be_something_to_answer(self):
        thread = self._create_thread()
        self.assertIn("nothing to answer", self._refusal(thread.enqueue_generation))
        thread.message_post(body="Question", llm_role="user")
        thread.message_post(body="Answer", llm_role="assistant")
        self.assertIn("nothing to answer", self._refusal(thread.enqueue_generation))

    def test_attachments_go_with_the_question(self):
        attachment = self._file()
        job = self._create_thread().enqueue_generation("Read", attachment_ids=attachment.ids)
        self.assertEqual(job.input_message_id.attachment_ids, attachment)

    def test_a_question_of_files_alone_is_told_as_any_other(self):
        thread = self._create_thread(self.direct_model)
        events = list(thread.generate_response(use_queue=True, attachment_ids=self._file().ids))
        self.assertEqual(events[0]["type"], "message_create")
        question = thread.generation_job_ids.input_message_id
        self.assertEqual(events[0]["message"]["id"], question.id)

    def _file(self):
        return (
            self
            .env["ir.attachment"]
            .with_user(self.user)
            .create({
                "name": "notes.txt",
                "raw": b"Notes",
                "res_model": "mail.compose.message",
            })
        )

    def test_attachments_of_others_are_not_given_away(self):
        secret = self.env["ir.attachment"].create({"name": "secret.txt", "raw": b"Secret"})
        with self.assertRaises(AccessError):
            self._create_thread().enqueue_generation("Read", attachment_ids=secret.ids)

    def test_the_familys_preparation_of_inputs_waits_for_the_execution(self):
        def prepare(_thread, inputs, attachment_ids=None):
            raise AssertionError

        with self._offered("llm.thread", prepare_generation_inputs=prepare):
            job = self._create_thread().enqueue_generation(inputs={"prompt": "A cat"})
        self.assertEqual(job.generation_inputs, {"prompt": "A cat"})

    # === FIGURES === #

    def test_a_thread_knows_its_jobs(self):
        thread = self._create_thread()
        self.assertRecordValues(
            thread,
            [
                {
                    "is_generating": False,
                    "current_generation_job_id": False,
                    "last_job_state": False,
                    "total_generation_jobs": 0,
                    "generation_success_rate": 0,
                }
            ],
        )
        for state in ("completed", "completed", "completed", "failed", "cancelled", "running"):
            last = self._create_job(state, thread_id=thread.id)
        thread.invalidate_recordset()
        self.assertRecordValues(
            thread,
            [
                {
                    "is_generating": True,
                    "current_generation_job_id": last.id,
                    "last_job_state": "running",
                    "total_generation_jobs": 6,
                    "successful_generation_jobs": 3,
                    "failed_generation_jobs": 1,
                    "generation_success_rate": 75,
                }
            ],
        )

    def test_the_figures_follow_their_jobs(self):
        job = self._create_job("queued")
        thread = job.thread_id.with_env(self.env)
        self.assertTrue(thread.is_generating)
        job.action_cancel()
        self.assertFalse(thread.is_generating)
        self.assertEqual(thread.last_job_state, "cancelled")

    def test_a_new_thread_can_be_filled_in(self):
        form = Form(self.env["llm.thread"])
        form.provider_id = self.native
        form.model_id = self.native_model
        form.name = "New"
        self.assertEqual(form.save().total_generation_jobs, 0)

    def test_threads_that_generate_can_be_found(self):
        waiting = self._create_job("queued").thread_id
        running = self._create_job("running").thread_id
        resting = self._create_job("completed").thread_id
        threads = (waiting | running | resting).with_env(self.env)

        def find(*domain):
            return self.env["llm.thread"].search([("id", "in", threads.ids), *domain])

        self.assertEqual(find(("is_generating", "=", True)), (waiting | running).with_env(self.env))
        self.assertEqual(find(("is_generating", "=", False)), resting.with_env(self.env))
        self.assertEqual(find(("is_generating", "!=", True)), resting.with_env(self.env))

    # === ACTIONS === #

    def test_cancelling_stops_what_waits_and_runs(self):
        thread = self._create_thread()
        jobs = self._create_job("queued", thread_id=thread.id)
        jobs |= self._create_job("running", thread_id=thread.id)
        ended = self._create_job("completed", thread_id=thread.id)
        thread.action_cancel_generation()
        self.assertEqual(jobs.mapped("state"), ["cancelled", "cancelled"])
        self.assertEqual(ended.state, "completed")

    def test_there_must_be_something_to_cancel(self):
        thread = self._create_job("completed").thread_id
        self.assertIn("No generation", self._refusal(thread.action_cancel_generation))

    def test_the_last_failure_is_retried(self):
        thread = self._create_thread()
        first = self._create_job("failed", thread_id=thread.id)
        last = self._create_job("failed", thread_id=thread.id)
        self._create_job("completed", thread_id=thread.id)
        thread.action_retry_last_failed_generation()
        self.assertEqual((first.state, last.state), ("failed", "queued"))

    def test_there_must_be_a_failure_to_retry(self):
        thread = self._create_job("completed").thread_id
        sentence = self._refusal(thread.action_retry_last_failed_generation)
        self.assertIn("has failed", sentence)

    def test_the_jobs_of_a_thread_can_be_opened(self):
        job = self._create_job()
        action = job.thread_id.action_view_generation_jobs()
        self.assertEqual(self.env["llm.generation.job"].search(action["domain"]), job)

    # === HISTORY === #

    def test_the_history_tells_the_newest_first(self):
        self.service.answers["check"] = [posted("Hi", usage={"prompt_tokens": 3})]
        thread = self._create_thread()
        old = self._create_job("failed", thread_id=thread.id)
        new = thread.enqueue_generation("How are you?")
        self._process_queue()
        new.check_status()
        history = thread.get_generation_history()
        self.assertEqual([entry["id"] for entry in history], [new.id, old.id])
        self.assertEqual((history[0]["state"], history[0]["prompt_tokens"]), ("completed", 3))
        self.assertEqual(
            (history[1]["state"], history[1]["error_message"]), ("failed", "It broke.")
        )

    def test_the_stats_tell_all_there_is(self):
        thread = self._create_thread()
        for state in ("completed", "failed", "queued"):
            self._create_job(state, thread_id=thread.id)
        stats = thread.get_generation_stats()
        self.assertEqual(
            (stats["total"], stats["successful"], stats["failed"], stats["success_rate"]),
            (3, 1, 1, 50),
        )
        self.assertEqual((stats["is_generating"], stats["last_job_state"]), (True, "queued"))
        self.assertEqual(
            stats["job_counts"],
            {"draft": 0, "queued": 1, "running": 0, "completed": 1, "failed": 1, "cancelled": 0},
        )
