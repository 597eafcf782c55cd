import contextlib
import itertools
import json
import threading
import time
from types import SimpleNamespace
from unittest.mock import Mock, patch

import requests

from odoo.exceptions import UserError
from odoo.http import Request
from odoo.tests import HttpCase, tagged
from odoo.tools import config, mute_logger

from odoo.addons.llm_thread.controllers import main as thread_routes

from ..controllers import event_stream
from ..runner import streams, thread_lock
from ..runner.cursor import LazyCursor
from ..runner.notifier import private_connection
from .common import ADDON, LlmGenerationCommon


@tagged("post_install", "-at_install")
class TestEventStream(LlmGenerationCommon, HttpCase):
    def setUp(self):
        super().setUp()
        self.thread = self._create_thread(self.direct_model)
        self.authenticate(self.user.login, self.user.login)

    def _ask(self, message="Hi", csrf=True, **data):
        data = {"thread_id": self.thread.id, "message": message, **data}
        if csrf:
            data["csrf_token"] = Request.csrf_token(self)
        return self.url_open("/llm_generate_job/generate", data=data)

    def _follow(self, job_id):
        return self.url_open(f"/llm_generate_job/follow?job_id={job_id}")

    def _events(self, response):
        self.assertEqual(response.headers["Content-Type"].split(";")[0], "text/event-stream")
        blocks = response.text.split("\n\n")[:-1]
        return [json.loads(block.removeprefix("data: ")) for block in blocks]

    def _types(self, events):
        return [event["type"] for event in events]

    # === GENERATE === #

    def test_a_queued_answer_is_streamed_to_its_end(self):
        events = self._events(self._ask(use_queue="1"))

        job = self.thread.generation_job_ids
        self.assertEqual(job.state, "completed")
        self.assertEqual(self._types(events)[:2], ["message_create", "job_status"])
        self.assertIn("Hi", str(events[0]["message"]["body"]))
        self.assertEqual((events[1]["state"], events[1]["position"]), ("queued", 1))
        self.assertEqual(events[-1]["type"], "done")
        self.assertEqual(events[-1]["job_id"], job.id)
        self.assertIn('<p dir="auto">Hello</p>', str(events[-1]["message"]["body"]))

    def test_without_a_choice_the_thread_chooses(self):
        direct = self._events(self._ask())
        self.direct_queue.always_queue = True
        queued = self._events(self._ask())

        self.assertNotIn("job_status", self._types(direct))
        self.assertIn("job_status", self._types(queued))
        self.assertEqual(self._types(direct)[-1], "done")

    def test_a_direct_answer_needs_no_job(self):
        self.direct_queue.always_queue = True

        events = self._events(self._ask(use_queue="0"))

        self.assertEqual(self._types(events)[-1], "done")
        self.assertFalse(self.thread.generation_job_ids)
        self.assertIn('<p dir="auto">Hello</p>', self._conversation(self.thread)[-1]["body"])

    def test_what_cannot_be_asked_is_told_and_leaves_nothing(self):
        events = self._events(self._ask(message="", use_queue="1"))

        self.assertEqual(self._types(events), ["error"])
        self.assertIn("write a message first", events[0]["error"])
        self.assertFalse(self.thread.generation_job_ids)

    def test_a_known_error_is_a_sentence_without_its_secrets(self):
        self._needs_errors_raised()
        self.service.chunks = [requests.ReadTimeout("key=sk-abcdefgh12345678 was slow")]

        events = self._events(self._ask(use_queue="0"))

        self.assertEqual(self._types(events)[-1], "error")
        self.assertIn("was slow", events[-1]["error"])
        self.assertNotIn("abcdefgh", json.dumps(events))

    def test_an_error_of_a_library_that_is_not_installed_is_a_sentence_too(self):
        self._needs_errors_raised()
        self.service.chunks = [type("ReadTimeout", (Exception,), {})("It was slow.")]
        self.service.chunks[0].__cause__ = TimeoutError("It was slow.")

        events = self._events(self._ask(use_queue="0"))

        self.assertEqual(events[-1], {"type": "error", "error": "It was slow."})

    def test_an_unexpected_error_is_logged_and_not_shown(self):
        self._needs_errors_raised()
        self.service.chunks = [KeyError("secret")]

        with self.assertLogs(event_stream.__name__, "WARNING"):
            events = self._events(self._ask(use_queue="0"))

        self.assertEqual(self._types(events)[-1], "error")
        self.assertNotIn("secret", events[-1]["error"])

    def test_a_direct_answer_ends_before_the_time_limit(self):
        self.service.chunks.insert(1, lambda: time.sleep(1.2))

        with patch.dict(config.options, limit_time_real=event_stream.TIME_MARGIN + 1):
            events = self._events(self._ask(use_queue="0"))

        self.assertEqual(self._types(events)[-1], "error")
        self.assertIn("longer than the 1 seconds", events[-1]["error"])

    def test_a_library_that_is_silent_until_the_limit_is_hung_up_on(self):
        ends, seen = threading.Event(), []

        def client(provider):
            on_response = provider.env.context["llm_on_response"]
            return SimpleNamespace(on_response=on_response)

        def chat(provider, _messages, model=None, **_kwargs):
            seen.append(provider.client)
            self.assertTrue(ends.wait(30), "nobody hung up")
            yield {"content": "late"}

        def hear(_client, on_response):
            on_response(Mock(spec=["close"], close=ends.set))

        with (
            self._offered(fakedirect_get_client=client, fakedirect_chat=chat),
            self._patched(f"{ADDON}.models.llm_provider.hear_connections", hear),
            patch.dict(config.options, limit_time_real=event_stream.TIME_MARGIN + 1),
        ):
            events = self._events(self._ask(use_queue="0"))
        self.assertEqual(len(seen), 1)
        self.assertIn("longer than the 1 seconds", events[-1]["error"])

    def test_a_stream_about_a_job_that_goes_on_ends_with_the_way_to_follow_it(self):
        self.direct_queue.enabled = False

        is_late = property(lambda stream: bool(stream.job_id))
        with patch.object(event_stream.EventStream, "_is_late", is_late):
            events = self._events(self._ask(use_queue="1"))

        job = self.thread.generation_job_ids
        self.assertEqual(events[-1], {"type": "follow", "job_id": job.id})
        self.assertEqual(job.state, "queued")

    def test_only_a_post_with_a_csrf_token_asks(self):
        with mute_logger("odoo.http"):
            self.assertEqual(self._ask(csrf=False).status_code, 400)
            self.assertEqual(self.url_open("/llm_generate_job/generate").status_code, 405)

        self.assertFalse(self._conversation(self.thread))

    def test_anothers_thread_and_no_thread_are_refused(self):
        other = self._create_thread(self.direct_model, user=self.manager)
        with mute_logger("odoo.http"):
            self.assertEqual(self._ask(thread_id=other.id).status_code, 403)
            self.assertEqual(self._ask(thread_id=other.id + 1000).status_code, 404)
            for far in (2**31, "9" * 5000):
                self.assertEqual(self._ask(thread_id=far).status_code, 404, far)

        self.assertFalse(self._conversation(other))

    def test_parameters_that_are_missing_or_odd_are_refused(self):
        form = {"csrf_token": Request.csrf_token(self)}
        file = {"thread_id": ("a.txt", b"1"), "job_id": ("a.txt", b"1")}
        with mute_logger("odoo.http"):
            for path in ("/llm_generate_job/generate", "/llm_generate_job/follow"):
                for how in ({}, {"files": file}):
                    response = self.url_open(path, data=form, **how)
                    self.assertEqual(response.status_code, 400, (path, how))
                    self.assertIn("has to be a number", response.text)
            for odd in ("x", "", "-1", "²", "٣", "1.0", "1 ", "None"):
                self.assertEqual(self._ask(thread_id=odd).status_code, 400, odd)
                self.assertEqual(self._follow(odd).status_code, 400, odd)
            data = {**form, "thread_id": self.thread.id}
            for how in (
                {"files": {"message": ("a.txt", b"1")}},
                {"data": {**data, "message": "\0"}},
            ):
                response = self.url_open("/llm_generate_job/generate", **{"data": data, **how})
                self.assertEqual(response.status_code, 400, how)
        self.assertFalse(self._conversation(self.thread))

    def test_what_a_tool_does_within_its_savepoint_is_done(self):
        def events(thread, *_args, **_kwargs):
            with thread.env.cr.savepoint():
                thread.name = "Done"
                yield {"type": "tool_succeeded"}
            yield {"type": "message_update"}

        asked = patch.object(type(self.thread), "generate_response", events)
        with asked:
            told = self._types(self._events(self._ask(use_queue="0")))
        self.assertEqual(told, ["tool_succeeded", "message_update", "done"])
        self.assertEqual(self.thread.name, "Done")

    def test_the_lock_of_the_family_outlives_a_commit(self):
        dbname = self.env.cr.dbname
        with LazyCursor(self.env.registry) as cr:
            thread = self.thread.with_env(self.env(cr=cr))
            thread._acquire_thread_lock()
            cr.commit()  # pylint: disable=invalid-commit
            self.assertTrue(thread_lock.is_taken(dbname, thread.id))
            with self.assertRaises(UserError):
                thread._acquire_thread_lock()
            thread._release_thread_lock()
            self.assertFalse(thread_lock.is_taken(dbname, thread.id))

    # === LIMITS === #

    def test_a_direct_answer_holds_no_connection_while_the_provider_is_waited_for(self):
        paths = ["/llm_generate_job/generate"]
        if self.env["llm.thread"]._counts_streams():  # that of the family has a connection each
            paths.append("/llm/thread/generate")
        for path in paths:
            with self.subTest(path):
                held = []

                def wait(held=held):
                    cr = self.service.calls["chat"][-1].env.cr
                    held.append(not isinstance(cr, LazyCursor) or cr.in_transaction)

                self.service.chunks = [wait, {"content": "Hello"}, wait, {"content": " you"}]
                data = {"thread_id": self.thread.id, "message": "Hi", "use_queue": "0"}
                if path.startswith("/llm/"):
                    del data["use_queue"]
                data["csrf_token"] = Request.csrf_token(self)
                events = self._events(self.url_open(path, data=data))
                self.assertEqual(self._types(events)[-1], "done")
                self.assertEqual(held, [False, False])

    def test_a_user_has_a_few_streams_at_once(self):
        self.direct_queue.enabled = False
        bodies = [self._stream_of_a_new_job() for _stream in range(streams.USER_STREAMS)]
        for body in bodies:
            self.assertIn(b"job_status", next(body))

        job = self._create_job("queued", thread_id=self.thread.id)
        refused = [
            *self._stream_of_a_new_job(),
            *event_stream.EventStream(
                self.thread.env, thread_id=self.thread.id, message="Hi"
            ).run(),
        ]
        self.assertEqual(len(refused), 2)
        for event in refused:
            self.assertIn(b"answers at once already", event)
        self.assertFalse(self._conversation(self.thread))

        other = self._create_job("queued", self.direct_model, user=self.manager)
        stream = event_stream.EventStream(other.with_user(self.manager).env, job_id=other.id)
        self.assertIn(b"job_status", next(stream.run()))
        bodies.pop().close()
        bodies.append(event_stream.EventStream(self.thread.env, job_id=job.id).run())
        self.assertIn(b"job_status", next(bodies[-1]))
        for body in bodies:
            body.close()

    def test_streams_in_other_processes_count_on_each_route(self):
        job = self._create_job("queued", self.direct_model)
        bodies = {
            "ours": lambda: event_stream.EventStream(self.thread.env, job_id=job.id).run(),
        }
        if stream := getattr(thread_routes, "EventStream", None):  # not each family has it
            bodies["the thread's"] = lambda: stream(self.thread.env, self.thread.id, "Hi").run()
        first = streams.STREAM_LOCK + self.user.id * streams.USER_STREAMS
        with contextlib.closing(private_connection(self.env.cr.dbname)) as other:
            with other.cursor() as cursor:
                for key in range(first, first + streams.USER_STREAMS):
                    cursor.execute("SELECT pg_advisory_lock(%s)", [key])
            for route, body in bodies.items():
                with self.subTest(route=route):
                    [event] = body()
                    self.assertIn(b"Wait for the end of one", event)
            self.assertFalse(self._conversation(self.thread))
            with other.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock_all()")
        for body in bodies.values():
            self.assertNotIn(b"Wait for the end of one", b"".join(body()))

    def _stream_of_a_new_job(self):
        job = self._create_job("queued", self.direct_model)
        return event_stream.EventStream(self.thread.env, job_id=job.id).run()

    def test_a_process_gives_a_few_answers_directly(self):
        with patch.object(streams, "DIRECT_ANSWERS", threading.BoundedSemaphore(1)):
            with streams.direct() as is_free:
                self.assertTrue(is_free)
                events = self._events(self._ask(use_queue="0"))
                self.assertEqual(self._types(events), ["error"])
                self.assertIn("as many answers at once as it can", events[0]["error"])
                self.assertEqual(self._types(self._events(self._ask(use_queue="1")))[-1], "done")
            self.assertEqual(self._types(self._events(self._ask(use_queue="0")))[-1], "done")

    # === FOLLOW === #

    def test_a_stream_ends_with_the_right_to_read(self):
        self.direct_queue.enabled = False
        job = self._create_job("queued", thread_id=self.thread.id)
        stream = event_stream.EventStream(self.thread.env, job_id=job.id)
        follow_class = type(self.env["llm.generation.engine"])
        with patch.object(follow_class, "_is_inline", lambda _follow: False):
            body = stream.run()
            next(body)
            self.thread.sudo().user_id = self.manager
            self.env.flush_all()
            rest = b"".join(itertools.islice(body, 4))
            body.close()
        self.assertIn(b"may no longer read", rest)
        self.assertEqual(rest.count(b"data: "), 1)

    def test_a_job_is_followed_from_where_it_stands(self):
        waiting = self._create_job("queued", thread_id=self.thread.id)

        events = self._events(self._follow(waiting.id))
        again = self._events(self._follow(waiting.id))

        self.assertEqual(events[0]["state"], "queued")
        self.assertEqual(self._types(events)[-1], "done")
        self.assertEqual(self._types(again), ["job_status", "message_create", "done"])

    def test_a_failed_job_tells_why(self):
        failed = self._create_job("failed", thread_id=self.thread.id)

        events = self._events(self._follow(failed.id))

        self.assertEqual(events[-1], {"type": "error", "error": "It broke.", "job_id": failed.id})

    def test_anothers_job_and_no_job_are_refused(self):
        other = self._create_job("queued", user=self.manager)
        with mute_logger("odoo.http"):
            self.assertEqual(self._follow(other.id).status_code, 403)
            self.assertEqual(self._follow(other.id + 1000).status_code, 404)
            self.assertEqual(self._follow(10**12).status_code, 404)
            self.assertEqual(self._follow(2**31).status_code, 404)

        self.assertEqual(other.state, "queued")

    def test_who_hangs_up_leaves_the_job_alone(self):
        self.direct_queue.enabled = False
        stream = event_stream.EventStream(
            self.thread.env, thread_id=self.thread.id, message="Hi", use_queue=True
        )

        body = stream.run()
        next(body)
        next(body)
        body.close()

        self.assertEqual(self.thread.generation_job_ids.state, "queued")

    def test_a_waiting_job_is_heard_of_until_it_ends(self):
        self.direct_queue.enabled = False
        job = self._create_job("queued", thread_id=self.thread.id)
        stream = event_stream.EventStream(self.thread.env, job_id=job.id)

        follow_class = type(self.env["llm.generation.engine"])
        with patch.object(follow_class, "_is_inline", lambda _follow: False):
            body = stream.run()
            waiting = [next(body), next(body), next(body)]
            job.action_cancel()
            self.env.flush_all()
            ended = b"".join(body)

        self.assertIn(b'"message": "Paused by an administrator.", "position": 1', waiting[0])
        self.assertEqual(waiting[1:], [event_stream.HEARTBEAT] * 2)
        self.assertEqual(ended.count(b"data: "), 2)
        self.assertIn(b'"type": "cancelled"', ended)
