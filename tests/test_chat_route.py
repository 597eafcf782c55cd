import contextlib
import itertools
import json
import threading
from unittest.mock import patch
from urllib.parse import urlencode

from odoo.http import Request
from odoo.tests import HttpCase, tagged
from odoo.tools import mute_logger

from ..controllers import chat_route, event_stream
from ..exceptions import BadRequestError
from ..runner import streams
from .common import LlmGenerationCommon

ROUTE = chat_route.CHAT_ROUTE
#: A route of ours that takes a GET and a POST, for what the route of `llm_thread` does not take.
OTHER_ROUTE = "/llm_generate_job/follow"
#: How one asks the route itself.
DIRECT_WAY = {ROUTE: "GET", OTHER_ROUTE: "POST"}
#: Of the family, which logs what it tells the user as well.
LOGGERS = (
    "odoo.addons.llm_assistant.models.llm_thread",
    "odoo.addons.llm_thread.controllers.main",
    "py.warnings",
)


@tagged("post_install", "-at_install")
class TestChatRoute(LlmGenerationCommon, HttpCase):
    """The route of the chat pages: the family's is a GET of an `EventSource`, ours a POST."""

    def setUp(self):
        super().setUp()
        self.thread = self._create_thread(self.direct_model)
        self.direct_queue.always_queue = True
        self.authenticate(self.user.login, self.user.login)

    def _route(self, way):
        """Return a route of that method that is taken for the chat's, as not each has both."""
        rules = self.env["ir.http"].routing_map().iter_rules()
        [rule] = [rule for rule in rules if rule.rule == ROUTE]
        return ROUTE if not rule.methods or way in rule.methods else OTHER_ROUTE

    def _ask(self, way="GET", headers=None, **params):
        params = {"thread_id": self.thread.id, "message": "Hi", **params}
        route = self._route(way)
        with patch.object(chat_route, "CHAT_ROUTE", route):
            if way == "GET":
                return self.url_open(f"{route}?{urlencode(params)}", headers=headers)
            params["csrf_token"] = Request.csrf_token(self)
            return self.url_open(route, data=params, headers=headers)

    def _broken_off(self, **params):
        """Ask, and have the stream end with the job still waiting."""
        is_late = property(lambda stream: bool(stream.job_id))
        with patch.object(event_stream.EventStream, "_is_late", is_late):
            return self._blocks(self._ask(**params))

    def _blocks(self, response):
        self.assertEqual(response.status_code, 200, response.text[:200])
        self.assertEqual(response.headers["Content-Type"].split(";")[0], "text/event-stream")
        return [dict(line.split(": ", 1) for line in block.split("\n"))
                for block in response.text.split("\n\n")[:-1]]  # fmt: skip

    def _events(self, response):
        return [json.loads(block["data"]) for block in self._blocks(response)]

    def _types(self, response):
        return [event["type"] for event in self._events(response)]

    def _questions(self):
        return self.env["mail.message"].search([
            ("model", "=", "llm.thread"),
            ("res_id", "=", self.thread.id),
            ("llm_role", "=", "user"),
        ])

    # === THE WAY === #

    def test_what_the_thread_queues_becomes_a_job(self):
        for way in ("GET", "POST"):
            with self.subTest(way=way):
                events = self._events(self._ask(way))

                job = self.thread.generation_job_ids.sorted("id")[-1]
                self.assertEqual((job.state, job.user_id), ("completed", self.user))
                self.assertEqual(bool(job.identity_key), way == "GET")
                kinds = [event["type"] for event in events]
                self.assertEqual(kinds[:2], ["message_create", "job_status"])
                self.assertIn("Hi", str(events[0]["message"]["body"]))
                self.assertEqual(kinds[-1], "done")
                self.assertEqual(kinds.count("done"), 1)
                self.assertIn("Hello", str(events[-1]["message"]["body"]))

    def test_what_it_does_not_queue_is_answered_as_ever(self):
        self.direct_queue.always_queue = False
        with mute_logger(*LOGGERS):
            kinds = self._types(self._ask(DIRECT_WAY[self._route("GET")]))

        self.assertFalse(self.thread.generation_job_ids)
        self.assertNotIn("job_status", kinds)
        self.assertEqual((kinds[0], kinds[-1]), ("message_create", "done"))
        self.assertIn("Hello", self.thread.message_ids.sorted("id")[-1].body)

    def test_direct_answers_are_bounded_where_the_route_does_not(self):
        self.direct_queue.always_queue = False
        way = DIRECT_WAY[self._route("GET")]

        def refused(words):
            events = self._events(self._ask(way))
            self.assertEqual([event["type"] for event in events], ["error", "done"])
            self.assertIn(words, events[0]["error"])
            self.assertFalse(self._questions())

        with (
            mute_logger(*LOGGERS),
            self._offered("llm.thread", _counts_streams=lambda _thread: False),
        ):
            with patch.object(streams, "DIRECT_ANSWERS", threading.BoundedSemaphore(1)):
                with streams.direct():
                    refused("as many answers at once as it can")
                self.assertEqual(self._types(self._ask(way))[-1], "done")
            self.assertTrue(self._questions())
            self.thread = self._create_thread(self.direct_model)
            with contextlib.ExitStack() as others:
                for _stream in range(streams.USER_STREAMS):
                    others.enter_context(streams.of_user(self.env.cr.dbname, self.user.id))
                refused("answers at once already")
            self.assertIn("message_create", self._types(self._ask(way)))

    def test_files_go_with_the_question(self):
        files = (
            self
            .env["ir.attachment"]
            .with_user(self.user)
            .create([
                {"name": name, "raw": b"text", "mimetype": "text/plain"} for name in ("a", "b")
            ])
        )
        first, second = files.ids

        self._ask(attachment_ids=f"{first}, {second},x")

        question = self.thread.generation_job_ids.input_message_id
        self.assertEqual(question.sudo().attachment_ids, files)

    def test_an_error_is_an_event_and_then_the_stream_is_done(self):
        self.service.chunks = [BadRequestError("At least one message is required.")]
        with mute_logger(*LOGGERS):
            events = self._events(self._ask())

        self.assertEqual([event["type"] for event in events[-2:]], ["error", "done"])
        self.assertIn("At least one message", events[-2]["error"])

    def test_what_cannot_be_asked_is_an_event_too(self):
        self.assertEqual(self._types(self._ask(message="")), ["error", "done"])

    def test_a_cancelled_answer_ends_as_done(self):
        self.direct_queue.enabled = False
        engine_class = type(self.env["llm.generation.engine"])
        stream = chat_route.ChatStream(
            self.thread.env, thread_id=self.thread.id, message="Hi", use_queue=True
        )
        with patch.object(engine_class, "_is_inline", lambda _engine: False):
            body = stream.run()
            for _event in range(3):
                next(body)
            self.thread.generation_job_ids.action_cancel()
            self.env.flush_all()
            rest = [part for part in body if part != event_stream.HEARTBEAT]

        self.assertIn(b'"cancelled"', rest[-2])
        self.assertIn(b'"done"', rest[-1])

    def test_a_stream_that_has_to_end_early_lets_the_browser_come_again(self):
        self.direct_queue.enabled = False
        last = json.loads(self._broken_off()[-1]["data"])

        self.assertEqual(last["type"], "follow")
        self.assertEqual(self.thread.generation_job_ids.state, "queued")

    def test_others_threads_are_left_to_the_route_itself(self):
        other = self._create_thread(self.direct_model, user=self.manager)
        way = DIRECT_WAY[self._route("GET")]
        for number in (other.id, other.id + 1000):
            with self.subTest(number=number), mute_logger("odoo.http", *LOGGERS):
                self._ask(way, thread_id=number)
        self.assertFalse(self.env["llm.generation.job"].search([("thread_id", "=", other.id)]))
        self.assertFalse(other.message_ids.filtered("llm_role"))

    # === WHAT COMES TWICE === #

    def test_a_browser_that_comes_again_follows_the_job(self):
        self.direct_queue.enabled = False
        last = self._broken_off()[-1]["id"]
        job = self.thread.generation_job_ids
        self.assertEqual(last, str(job.id))
        self.direct_queue.enabled = True

        kinds = self._types(self._ask(headers={"Last-Event-ID": last}))

        self.assertEqual((kinds[0], kinds[-1]), ("job_status", "done"))
        self.assertEqual(len(self._questions()), 1)
        self.assertEqual(len(self.thread.generation_job_ids), 1)

    def test_a_browser_that_comes_again_after_the_end_is_sent_away(self):
        done = self._create_job("completed", thread_id=self.thread.id)
        others = self._create_job("queued", self.direct_model, user=self.manager)
        for number in (done.id, others.id, others.id + 1000):
            response = self._ask(headers={"Last-Event-ID": str(number)})
            self.assertEqual((response.status_code, response.text), (204, ""), number)
        self.assertFalse(self._questions())

    def test_a_question_that_is_sent_twice_is_asked_once(self):
        """Browsers and proxies repeat a GET of which they heard nothing."""
        self.direct_queue.enabled = False
        for _time in range(2):
            self.assertIn("message_create", self._broken_off()[0]["data"])
        self.assertEqual(len(self._questions()), 1)
        self.assertEqual(len(self.thread.generation_job_ids), 1)

        self._broken_off(message="Ho")
        self._broken_off(way="POST")
        self.assertEqual(len(self._questions()), 3)

    def test_questions_have_a_key_of_their_own(self):
        key = self.thread._identity_of_question
        others = self._create_thread(self.direct_model)._identity_of_question("Hi", [])
        keys = [key("Hi", []), key("Ho", []), key("Hi", [1]), key("", []), others]
        keys.append(self.thread.with_user(self.manager)._identity_of_question("Hi", []))
        for one, two in itertools.combinations(keys, 2):
            self.assertNotEqual(one, two)
        self.assertEqual(key("Hi", [2, 1]), key("Hi", [1, 2]))
        self.assertNotIn("Hi", keys[0])

    # === WHO ASKS === #

    def test_only_the_chat_page_may_ask(self):
        """No other page, no link and no picture: the answer costs money."""
        for always in (True, False):
            self.direct_queue.always_queue = always
            for headers in (
                {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "empty"},
                {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Dest": "empty"},
                {"Sec-Fetch-Site": "none", "Sec-Fetch-Dest": "document"},
                {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "image"},
                {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "document"},
            ):
                with self.subTest(headers=headers), mute_logger("odoo.http"):
                    self.assertEqual(self._ask(headers=headers).status_code, 403)
        self.assertFalse(self._questions())
        self.direct_queue.always_queue = True
        own = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "empty"}
        self.assertEqual(self._types(self._ask(headers=own))[-1], "done")
