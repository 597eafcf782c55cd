from contextlib import closing
from unittest.mock import patch

import psycopg2
import requests

from odoo.exceptions import UserError

from .. import lock
from ..exceptions import ThreadBusyError
from ..growing_message import GrowingMessage
from ..lock import advisory_lock
from .common import LlmThreadCommon, words


class TestGeneration(LlmThreadCommon):
    def test_generate_posts_the_question_and_streams_the_answer(self):
        usage = {"prompt_tokens": 5, "completion_tokens": 1}

        events = self._ask(words("Hello", usage=usage))

        self.assertEqual(
            [(event["type"], event["message"]["llm_role"]) for event in events],
            [
                ("message_create", "user"),
                ("message_create", "assistant"),
                ("message_update", "assistant"),
            ],
        )
        self.assertEqual(events[-1]["usage"], usage)
        question, answer = self._messages()
        self.assertEqual(answer.parent_id, question)
        self.assertEqual(answer.body, '<p dir="auto">Hello</p>')

    def test_the_provider_gets_the_model_and_the_conversation_as_the_user(self):
        self._ask(words("One"), text="First")
        self._ask(words("Two"), text="Second")

        asked = self.asked[-1]
        self.assertEqual(asked["model"], self.chat_model)
        self.assertTrue(asked["stream"])
        self.assertIsNone(asked["tools"])
        self.assertEqual(asked["env"].user, self.user)
        self.assertFalse(asked["env"].su)
        self.assertEqual(
            asked["messages"].mapped("body"),
            ["<p>First</p>", '<p dir="auto">One</p>', "<p>Second</p>"],
        )

    def test_without_a_question_what_was_said_last_is_answered(self):
        question = self.thread.message_post(body="Hi", llm_role="user")

        self._ask(words("Hello"), text=None)

        self.assertEqual(self.asked[0]["messages"], question)
        self.assertEqual(self._messages()[-1].parent_id, question)

    def test_an_empty_thread_has_nothing_to_answer(self):
        with self.assertRaisesRegex(UserError, "write a message first"):
            list(self.thread.generate())

    def test_attachments_go_with_the_question(self):
        attachment = (
            self
            .env["ir.attachment"]
            .with_user(self.user)
            .create({
                "name": "a.txt",
                "raw": b"x",
                "res_model": "mail.compose.message",
            })
        )
        self.answers.append(words("Seen"))

        list(self.thread.generate("Look", attachment_ids=attachment.ids))

        self.assertEqual(self._messages()[0].attachment_ids, attachment)

    def test_a_failed_answer_is_not_given_to_the_model_again(self):
        self.answers.append([{"content": "Half"}, requests.ReadTimeout("slow")])
        self._fail(self.thread.generate("Hi"), requests.ReadTimeout)

        self._ask(words("Whole"), text=None)

        self.assertEqual(self.asked[-1]["messages"], self._messages()[0])

    def test_a_busy_thread_refuses_before_it_writes(self):
        self.answers.append(words("Hello"))
        with closing(self.thread.generate("Hi")) as first:
            next(first)
            count = len(self._messages())

            with self.assertRaisesRegex(ThreadBusyError, "Wait for its end"):
                next(self.thread.generate("Me too"))

            self.assertEqual(len(self._messages()), count)

    def test_another_process_is_busy_too(self):
        with advisory_lock(self.env.cr.dbname, self.thread.id) as locked:
            self.assertTrue(locked)
            with self.assertRaises(ThreadBusyError):
                next(self.thread.generate("Hi"))

    def test_another_thread_is_not_busy(self):
        self.answers.append(words("Hello"))
        with closing(self.thread.generate("Hi")) as first:
            next(first)

            events = self._ask(words("Hello"), thread=self._create_thread())

        self.assertEqual(len(events), 3)

    def test_the_lock_is_free_after_the_end_an_error_or_a_close(self):
        self._ask(words("One"))
        self.answers.append([requests.ConnectionError("No")])
        self._fail(self.thread.generate("Hi"), requests.ConnectionError)
        self.answers.append(words("Two"))
        generator = self.thread.generate("Hi")
        next(generator)
        generator.close()
        self.answers.clear()

        events = self._ask(words("Three"))

        self.assertIn("Three", events[-1]["message"]["body"])

    def test_the_lock_is_free_when_the_generator_is_forgotten(self):
        self.answers.append(words("One"))
        generator = self.thread.generate("Hi")
        next(generator)
        del generator

        with advisory_lock(self.env.cr.dbname, self.thread.id) as locked:
            self.assertTrue(locked)

    def test_one_connection_takes_the_next_lock(self):
        dbname = self.env.cr.dbname
        lock._kept.clear()
        with patch.object(lock.psycopg2, "connect", wraps=psycopg2.connect) as connect:
            for key in (1, 2):
                with advisory_lock(dbname, key):
                    pass
            connect.assert_called_once()
            with advisory_lock(dbname, 1), advisory_lock(dbname, 1) as again:
                self.assertFalse(again)
            with advisory_lock(dbname, 1) as locked:
                self.assertTrue(locked)
        self.assertEqual(len(lock._kept), 1)
        self.assertEqual(connect.call_count, 2)

    def test_a_connection_that_was_lost_takes_no_lock(self):
        dbname = self.env.cr.dbname
        lock._kept.clear()
        for _turn in range(2):
            with advisory_lock(dbname, 1) as locked:
                self.assertTrue(locked)
            [(_dbname, kept)] = lock._kept.values()
            with closing(psycopg2.connect(kept.dsn)) as other, other.cursor() as cr:
                cr.execute("SELECT pg_terminate_backend(%s, 5000)", [kept.get_backend_pid()])
        with advisory_lock(dbname, 1) as locked:  # nobody has it still
            self.assertTrue(locked)

    def test_an_answer_that_came_whole_is_written_once(self):
        with patch.object(GrowingMessage, "_html_of") as rendered:
            *_others, last = self._ask(words("Hello"))
        rendered.assert_not_called()
        self.assertIn("Hello", last["message"]["body"])

    def test_generate_delegates_to_generate_messages_with_the_question(self):
        given = []

        def generate_messages(thread, last_message=None):
            given.append(last_message)
            yield {"type": "other"}

        with patch.object(self.registry["llm.thread"], "generate_messages", generate_messages):
            events = self._ask()

        self.assertEqual(given, list(self._messages()))
        self.assertEqual(events[-1], {"type": "other"})
