from unittest.mock import patch

from odoo.exceptions import AccessError, UserError

from .common import LlmGenerationCommon


class TestLlmThreadChat(LlmGenerationCommon):
    """What a chat page asks, and is told, without an event stream."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.thread = cls._create_thread(cls.direct_model)

    def setUp(self):
        super().setUp()
        self.direct_queue.always_queue = True

    def _wait(self, message="Hi"):
        self.direct_queue.enabled = False
        return self.thread.ask_in_queue(message)

    def _roles(self, news):
        messages = self.env["mail.message"].browse(news["message_ids"])
        return messages.mapped("llm_role")

    def test_a_question_waits_and_is_told_with_its_place(self):
        news = self._wait()

        job = self.thread.generation_job_ids
        self.assertEqual((news["job"]["id"], news["job"]["state"]), (job.id, "queued"))
        self.assertEqual(news["job"]["queue_position"], 1)
        self.assertEqual(news["job"]["message"], "Paused by an administrator.")
        self.assertEqual(news["message_ids"], job.input_message_id.ids)
        self.assertEqual(news["since"], job.input_message_id.id)
        [told] = news["data"]["mail.message"]
        self.assertEqual(told["id"], job.input_message_id.id)
        self.assertIn("Hi", str(told["body"]))

    def test_the_answer_comes_with_the_question(self):
        self.thread.ask_in_queue("Hi")
        news = self.thread.get_generation_news()

        self.assertEqual(news["job"]["state"], "completed")
        self.assertEqual(self._roles(news), ["user", "assistant"])
        self.assertIn("Hello", str(news["data"]["mail.message"]))

    def test_all_questions_that_wait_are_told(self):
        self._wait("First")
        news = self.thread.ask_in_queue("Second")

        jobs = self.thread.generation_job_ids.sorted("id")
        self.assertEqual(news["job"]["id"], jobs[-1].id)
        self.assertEqual(news["message_ids"], jobs.input_message_id.sorted("id").ids)

    def test_the_answer_that_is_written_is_told_before_what_waits(self):
        self._wait("First")
        first = self.thread.generation_job_ids
        self.direct_queue.enabled = True
        self._claim(first)
        self.direct_queue.enabled = False
        self.thread.enqueue_generation("Second")

        self.assertEqual(self.thread.get_generation_news()["job"]["id"], first.id)

    def test_the_end_of_an_answer_is_told_while_another_question_waits(self):
        self.direct_queue.enabled = False
        first, second = (self.thread.enqueue_generation(text) for text in ("first", "second"))
        answer = self.thread.message_post(
            body="Done", llm_role="assistant", parent_id=first.input_message_id.id
        )
        first.sudo().write({"state": "running"})
        first.action_complete(answer)
        told = self.thread.get_generation_news()["message_ids"]
        asked = [first.input_message_id.id, second.input_message_id.id]
        self.assertEqual(sorted(told), sorted([*asked, answer.id]))

    def test_what_is_answered_directly_is_left_alone(self):
        self.direct_queue.always_queue = False

        self.assertIs(self.thread.ask_in_queue("Hi"), False)
        self.assertFalse(self.thread.generation_job_ids)
        self.assertFalse(self.thread.message_ids.filtered("llm_role"))

    def test_who_asks_while_a_question_waits_is_answered_after_it(self):
        self._wait("First")
        self.direct_queue.always_queue = False

        self.assertTrue(self.thread.ask_in_queue("Second"))
        self.assertEqual(len(self.thread.generation_job_ids), 2)

    def test_a_page_that_queues_always_says_so(self):
        self.direct_queue.always_queue = False

        self.assertTrue(self.thread.ask_in_queue("Hi", use_queue=True))
        self.assertEqual(self.thread.generation_job_ids.state, "completed")

    def test_a_question_that_comes_again_while_it_waits_is_one(self):
        engine = type(self._engine())
        with patch.object(engine, "_is_inline", lambda _self: False):
            first, second = (
                self.thread.ask_in_queue("Hi", use_queue=True)["job"]["id"] for _time in range(2)
            )
            self.assertEqual(first, second)
            self.assertEqual(len(self.thread.generation_job_ids.input_message_id), 1)
            other = self.thread.ask_in_queue("Hi again", use_queue=True)["job"]["id"]
        self.assertNotEqual(first, other)

    def test_the_same_words_after_others_are_another_question(self):
        engine = type(self._engine())
        with patch.object(engine, "_is_inline", lambda _self: False):
            for words in ("Yes", "No", "Yes"):
                self.thread.ask_in_queue(words, use_queue=True)
            self.assertEqual(len(self.thread.generation_job_ids.input_message_id), 3)
            self.thread.message_post(body="And now?", llm_role="user")
            self.thread.ask_in_queue(use_queue=True)
            self.thread.ask_in_queue(use_queue=True)
        self.assertEqual(len(self.thread.generation_job_ids), 4)
        last = self.thread.generation_job_ids.sorted("id")[-1]
        self.assertIn("And now?", last.input_message_id.body)

    def test_nothing_to_answer_is_refused(self):
        with self.assertRaisesRegex(UserError, "write a message first"):
            self.thread.ask_in_queue()

    def test_the_last_question_is_answered_without_a_new_one(self):
        question = self.thread.message_post(body="Hi", llm_role="user")
        news = self.thread.ask_in_queue()

        self.assertEqual(self.thread.generation_job_ids.input_message_id, question)
        self.assertEqual(news["since"], question.id)

    def test_files_go_with_the_question(self):
        file = self.env["ir.attachment"].with_user(self.user).create({"name": "a", "raw": b"text"})
        self.thread.ask_in_queue("Hi", file.ids)

        self.assertEqual(self.thread.generation_job_ids.input_message_id.attachment_ids, file)

    def test_an_end_is_told_until_the_next_question(self):
        for end in ("failed", "cancelled"):
            with self.subTest(end=end):
                self._wait()
                job = self.thread.generation_job_ids.filtered("is_active")
                job.action_cancel() if end == "cancelled" else job.action_fail("It broke.")
                self.assertEqual(self.thread.get_generation_news()["job"]["state"], end)

                self.thread.message_post(body="And now?", llm_role="user")
                news = self.thread.get_generation_news()
                self.assertFalse(news["job"])
                # Its messages are told again: a page may have shown half of an answer.
                self.assertEqual(news["since"], job.input_message_id.id)

    def test_a_thread_without_jobs_has_no_news(self):
        self.thread.message_post(body="Hi", llm_role="user")
        news = self.thread.get_generation_news()

        self.assertEqual(news, {"job": False, "since": False, "message_ids": [], "data": {}})

    def test_nobody_else_asks_or_is_told(self):
        other = self._create_thread(self.direct_model, user=self.manager).with_user(self.user)
        for method in (other.ask_in_queue, other.get_generation_news):
            with self.assertRaises(AccessError):
                method()
