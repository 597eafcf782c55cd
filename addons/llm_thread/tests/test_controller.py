import json
import threading
import time
from unittest.mock import patch

import requests

from odoo.http import Request
from odoo.tests import HttpCase, tagged
from odoo.tools import config, mute_logger

from .. import stream_slots
from ..controllers import main
from ..lock import advisory_lock
from ..stream_slots import USER_STREAMS
from .common import FakeChatMixin, words


@tagged("post_install", "-at_install")
class TestController(FakeChatMixin, HttpCase):
    def setUp(self):
        super().setUp()
        self.thread = (
            self
            .env["llm.thread"]
            .with_user(self.user)
            .create({"name": "Talk", "provider_id": self.provider.id})
        )
        self.authenticate("thread_user", "thread_user")

    def _post(self, message="Hi", thread_id=None, csrf=True):
        data = {"thread_id": thread_id or self.thread.id, "message": message}
        if csrf:
            data["csrf_token"] = Request.csrf_token(self)
        return self.url_open("/llm/thread/generate", data=data)

    def _events(self, *answers, **kwargs):
        self.answers.extend(answers)
        response = self._post(**kwargs)
        self.assertEqual(response.headers["Content-Type"], "text/event-stream")
        blocks = response.text.split("\n\n")[:-1]
        return [json.loads(block.removeprefix("data: ")) for block in blocks]

    def test_events_are_streamed_and_saved(self):
        events = self._events(words("Héllo"))

        self.assertEqual(
            [event["type"] for event in events],
            ["message_create", "message_create", "message_update", "done"],
        )
        self.assertEqual(events[2]["message"]["body"], '<p dir="auto">Héllo</p>')
        self.assertEqual(self.asked[0]["env"].uid, self.user.id)
        self.assertEqual(self.thread.get_conversation()[-1]["body"], '<p dir="auto">Héllo</p>')

    def test_without_a_message_the_last_one_is_answered(self):
        self.thread.message_post(body="Hi", llm_role="user")

        events = self._events(words("Hello"), message="")

        self.assertEqual([event["type"] for event in events][-1], "done")
        self.assertEqual(len(self.thread.get_conversation()), 2)

    def test_an_error_ends_the_stream_with_a_sentence(self):
        events = self._events([{"content": "Half"}, requests.ReadTimeout("key=secret")])

        self.assertEqual(
            [event["type"] for event in events],
            ["message_create", "message_create", "message_update", "error"],
        )
        self.assertIn("did not answer in time", events[-1]["error"])
        self.assertNotIn("secret", json.dumps(events))
        self.assertTrue(self.thread.get_conversation()[-1]["is_error"])

    def test_an_unexpected_error_is_logged_and_not_shown(self):
        with self.assertLogs(main.__name__, "WARNING"):
            events = self._events([KeyError("secret")])

        self.assertEqual(events[-1]["type"], "error")
        self.assertNotIn("secret", events[-1]["error"])

    def test_a_busy_thread_says_so(self):
        with advisory_lock(self.env.cr.dbname, self.thread.id):
            events = self._events()

        self.assertEqual([event["type"] for event in events], ["error"])
        self.assertIn("Wait for its end", events[0]["error"])

    def test_the_stream_ends_before_the_time_limit(self):
        def wait():
            time.sleep(1.2)

        with patch.dict(config.options, limit_time_real=main.TIME_MARGIN + 1):
            events = self._events([{"content": "Half"}, wait, {"content": "x"}, {"content": "y"}])

        self.assertEqual(events[-1]["type"], "error")
        self.assertIn("took longer than the 1 seconds", events[-1]["error"])
        self.assertEqual(self.thread.get_conversation()[-1]["body"], '<p dir="auto">Halfx</p>')

    def test_a_silent_provider_is_cut_off_at_the_time_limit(self):
        cut = threading.Event()

        def wait():
            self.asked[0]["env"].context["llm_on_response"](self)
            cut.wait(20)

        self.close = cut.set
        with patch.dict(config.options, limit_time_real=main.TIME_MARGIN + 1):
            events = self._events([wait, requests.exceptions.ChunkedEncodingError("cut")])

        self.assertTrue(cut.is_set())
        self.assertIn("took longer", events[-1]["error"])

    def test_a_client_that_hangs_up_frees_the_thread_and_keeps_what_came(self):
        stream = main.EventStream(self.thread.env, self.thread.id, "Hi")
        self.answers.append(words("Half", "rest"))

        body = stream.run()
        next(body)
        next(body)
        body.close()

        with advisory_lock(self.env.cr.dbname, self.thread.id) as locked:
            self.assertTrue(locked)
        self.env.invalidate_all()
        self.assertEqual(self.thread.get_conversation()[-1]["body"], '<p dir="auto">Half</p>')

    def test_only_a_post_with_a_csrf_token_is_served(self):
        with mute_logger("odoo.http"):
            self.assertEqual(self._post(csrf=False).status_code, 400)
            self.assertEqual(self.url_open("/llm/thread/generate").status_code, 405)

        self.assertFalse(self.asked)

    def test_anothers_thread_and_no_thread_are_refused(self):
        other = self.env["llm.thread"].create({"name": "X", "provider_id": self.provider.id})
        with mute_logger("odoo.http"):
            self.assertEqual(self._post(thread_id=other.id).status_code, 403)
            for far in (other.id + 1000, 2**31, "9" * 5000):
                self.assertEqual(self._post(thread_id=far).status_code, 404, far)

        self.assertFalse(self.asked)

    def test_parameters_that_are_missing_or_odd_are_refused(self):
        form = {"csrf_token": Request.csrf_token(self)}
        own = {**form, "thread_id": self.thread.id}
        file = ("a.txt", b"1")
        with mute_logger("odoo.http"):
            for odd in ("x", "-1", "²", "1.0", " ", "None"):
                self.assertEqual(self._post(thread_id=odd).status_code, 400, odd)
            for data, files in (
                (form, None),
                (form, {"thread_id": file}),
                (own, {"message": file}),
                ({**own, "message": "\0"}, None),
            ):
                response = self.url_open("/llm/thread/generate", data=data, files=files)
                self.assertEqual(response.status_code, 400, (data, files))
                self.assertIn("has to be", response.text)

        self.assertFalse(self.asked)

    def test_a_user_has_a_few_answers_at_once(self):
        threads = [self.thread.copy() for _stream in range(USER_STREAMS + 1)]
        self.answers.extend(words("Half", "rest") for _thread in threads)
        bodies = [self._stream(thread) for thread in threads]
        for body in bodies[:-1]:
            self.assertIn(b"message_create", next(body))

        [event] = self._stream(threads[-1])
        self.assertIn("Wait for the end of one", json.loads(event.removeprefix(b"data: "))["error"])
        self.assertFalse(threads[-1].get_conversation())

        bodies[0].close()
        self.assertIn(b"message_create", next(bodies[-1]))
        for body in bodies:
            body.close()

    def test_a_process_gives_a_few_answers_at_once(self):
        with patch.object(stream_slots, "PROCESS_STREAMS", 1):
            first, second = self._stream(self.thread), self._stream(self.thread.copy())
            self.answers.append(words("Half", "rest"))
            next(first)
            self.assertIn(b"Wait for the end of one", next(second))
            first.close()
            second.close()

    def _stream(self, thread):
        return main.EventStream(thread.env, thread.id, "Hi").run()
