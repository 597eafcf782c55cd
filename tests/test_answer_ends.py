import ast
import re
from inspect import Parameter, Signature

from lxml.etree import fromstring

from odoo.exceptions import UserError

from ..const import FINISH_REASONS, UNFINISHED
from ..exceptions import NoJobInterfaceError, TransientError
from .common import LlmGenerationCommon
from .test_family import http_error

CALL = {"id": "call-1", "type": "function", "function": {"name": "look", "arguments": "{}"}}


class TestAnswerEnds(LlmGenerationCommon):
    """How an answer ended is told, and what was asked for is what is sent."""

    def setUp(self):
        super().setUp()
        self._commit_each_chunk()
        self.thread = self._create_thread(self.direct_model)

    def _asked(self, *chunks, **values):
        self.service.chunks = list(chunks)
        job = self.thread.enqueue_generation("How are you?", **values)
        self._process_queue(self.direct)
        return job

    def _chats_with(self, *names):
        """Have the chat take these arguments, and return those that it gets."""
        given = {}

        def chat(_provider, messages, **arguments):
            given.update(arguments)
            return self.service.chat(messages)

        parameters = [Parameter("provider", Parameter.POSITIONAL_ONLY)]
        parameters += [Parameter(name, Parameter.KEYWORD_ONLY) for name in names]
        chat.__signature__ = Signature(parameters)
        self.enterContext(self._offered("llm.provider", fakedirect_chat=chat))
        return given

    # === ENDS === #

    def test_how_an_answer_ended_is_told_where_the_provider_says_so(self):
        heard = []
        hook = {"_on_generation_job_done": lambda _thread, job: heard.append(job.finish_reason)}
        self.enterContext(self._offered("llm.thread", **hook))
        for told, reason in (
            *((reason, reason) for reason, _label in FINISH_REASONS),
            ("MAX_TOKENS", "length"),
            ("error", "broken"),
            ("end_turn", "stop"),
            ("something new", "other"),
            (None, False),
            (["odd"], False),
        ):
            with self.subTest(told=told):
                self.service.reset()
                job = self._asked({"content": "Half"}, {"finish_reason": told})
                self.assertEqual((job.state, job.finish_reason), ("completed", reason))
                self.assertEqual(heard[-1], reason)
                self.assertEqual(len(self.service.calls["chat"]), 1)
                is_whole = reason in {"stop", "other", False}
                self.assertEqual(job._status_sentence() == "Answered.", is_whole)
                news = self.thread.get_generation_news()["job"]
                self.assertEqual(news["finish_reason"], reason)
                self.assertEqual(self.thread.get_generation_history()[0]["finish_reason"], reason)

    def test_each_page_knows_what_is_missing_in_an_answer(self):
        views = self.env["ir.ui.view"].search([("model", "=", "llm.generation.job")])
        told = re.findall(
            r"finish_reason'?,? (?:not )?'?in'?,? (\([^)]*\))", "".join(views.mapped("arch"))
        )
        self.assertEqual(len(told), 3)
        self.assertEqual({ast.literal_eval(one) for one in told}, {UNFINISHED})
        [column] = fromstring(
            self.env.ref("llm_generate_job.llm_generation_job_view_list").arch
        ).xpath("//field[@name='finish_reason']")
        self.assertEqual(column.get("optional"), "show")

    def test_an_answer_that_ends_before_its_first_word_is_not_asked_for_again(self):
        for told, error_type in (
            ("length", "bad_request"),
            ("content_filter", "content_refused"),
            ("refusal", "content_refused"),
        ):
            for chunks in ([], [{"content": " "}], [{"usage": {"completion_tokens": 9}}]):
                with self.subTest(told, chunks=chunks):
                    self.thread = self._create_thread(self.direct_model)
                    self.service.reset()
                    job = self._asked(*chunks, {"finish_reason": told})
                    self.assertRecordValues(
                        job,
                        [{"state": "failed", "error_type": error_type, "finish_reason": told}],
                    )
                    self.assertFalse(job.retry_at)
                    self.assertIn(job.error_message.split()[0], {"The", "A"})
                    self.assertEqual(len(self.service.calls["chat"]), 1)

    def test_how_the_last_turn_ended_is_what_is_told(self):
        turns = [
            [{"tool_calls": [CALL]}, {"finish_reason": "tool_calls"}],
            [{"content": "Seen."}],
        ]

        def chat(_provider, messages, **_how):
            self.service.chunks = turns.pop(0)
            return self.service.chat(messages)

        self.enterContext(self._offered("llm.provider", fakedirect_chat=chat))
        self.thread.sudo().tool_ids = self.env["llm.tool"].create({
            "name": "look",
            "description": "Looks",
            "implementation": self._tool_implementation(),
        })
        job = self._asked()
        self.assertEqual((job.state, job.finish_reason), ("completed", False), job.error_message)
        self.assertFalse(turns)

    def test_nothing_is_left_of_how_an_earlier_attempt_ended(self):
        job = self._asked({"finish_reason": "length"})
        self.service.chunks = [{"content": "All"}]
        job.with_user(self.manager).action_retry()
        self.assertFalse(job.finish_reason)
        self._process_queue(self.direct)
        self.assertRecordValues(job, [{"state": "completed", "finish_reason": False}])

    def test_a_provider_with_jobs_tells_it_with_their_state(self):
        told = {"state": "completed", "finish_reason": "max_output_tokens"}
        self.service.answers["create"] = [told]
        job = self._create_job("queued")
        self._process_queue()
        self.assertRecordValues(job, [{"state": "completed", "finish_reason": "length"}])

    def test_an_answer_that_ends_early_says_so_in_its_job(self):
        heard = []
        hook = {"_on_generation_job_done": lambda _thread, job: heard.append(job.finish_reason)}
        self.enterContext(self._offered("llm.thread", **hook))
        dead = TransientError("Dead.")
        for chunks, reason in (
            ([{"content": "Half"}, dead], "broken"),
            ([{"tool_calls": [CALL]}, {"content": "Half"}, dead], "broken"),
            ([{"content": "Half"}, {"finish_reason": "length"}, dead], "length"),
            ([dead], False),
        ):
            with self.subTest(reason, chunks=chunks):
                self.thread = self._create_thread(self.direct_model)
                self.service.reset()
                job = self._asked(*chunks, max_retries=0)
                self.assertEqual((job.state, job.finish_reason), ("failed", reason))
                self.assertEqual(heard.pop(), reason)
                self.assertEqual(self.thread.get_generation_history()[0]["finish_reason"], reason)
                self.service.chunks = [{"content": "All"}]
                job.with_user(self.manager).action_retry()
                self._process_queue(self.direct)
                self.assertEqual((job.state, job.finish_reason), ("completed", False))
                self.assertEqual(heard.pop(), False)
                self.assertEqual(len(self.service.calls["chat"]), 2)

    def test_an_answer_that_its_reader_stops_says_so_in_its_job(self):
        heard = []
        hook = {"_on_generation_job_done": lambda _thread, job: heard.append(job.finish_reason)}
        self.enterContext(self._offered("llm.thread", **hook))
        job = self.thread.enqueue_generation("How are you?")
        self.service.chunks = [{"content": "Half"}, job.action_cancel, {"content": "rest"}]
        self._process_queue(self.direct)
        self.assertEqual((job.state, job.finish_reason, heard.pop()), ("cancelled",) * 3)
        unheard = self._create_job("running", self.direct_model)
        unheard.action_cancel()
        self.assertEqual((unheard.state, unheard.finish_reason), ("cancelled", False))

    def test_an_attempt_that_waits_again_has_not_ended_its_answer(self):
        self._asked({"content": "Half"}, http_error(429, **{"Retry-After": "2"}))
        job = self.thread.generation_job_ids
        self.assertEqual((job.state, job.finish_reason), ("queued", False))

    def test_half_an_answer_says_why_it_is_none(self):
        self.user.lang = "en_US"
        job = self._asked({"content": "Half"}, TransientError("Dead."))
        half = job.output_message_id
        self.assertTrue(half.is_error)
        self.assertRegex(half.body, "Half.*<em>.*</em>")
        job.sudo()._mark_half_answers()  # it is said once
        self.assertEqual(half.body.count("<em>"), 1)

    def test_the_half_of_a_cancelled_answer_is_marked_and_given_to_no_model(self):
        job = self.thread.enqueue_generation("How are you?")
        self.service.chunks = [{"content": "Half"}, job.action_cancel, {"content": "rest"}]
        self._process_queue(self.direct)
        self.assertEqual(job.state, "cancelled")
        half = job.output_message_id
        self.assertTrue(half.is_error)
        self.assertIn("Cancelled.", half.body)
        self.service.chunks = [{"content": "Fine"}]
        self.thread.enqueue_generation("And now?")
        self._process_queue(self.direct)
        asked = self.service.calls["chat"][-1]
        self.assertEqual([message.llm_role for message in asked], ["user", "user"])

    # === INPUTS === #

    def test_the_inputs_of_a_chat_are_sent(self):
        given = self._chats_with("temperature", "response_format", "max_tokens")
        inputs = {"temperature": 0, "response_format": {"type": "json_object"}, "max_tokens": 5}
        job = self._asked({"content": "{}"}, inputs=inputs)
        self.assertEqual(job.state, "completed", job.error_message)
        self.assertEqual({name: given[name] for name in inputs}, inputs)

    def test_what_a_chat_cannot_be_given_is_refused(self):
        given = self._chats_with("temperature", "tools", "model", "timeout", "odd")
        for name in ("tools", "model", "timeout", "odd", "top_p", "stream", "messages"):
            with (
                self.subTest(name),
                self.assertRaisesRegex(
                    UserError, f"cannot be given {name}. Leave it out; .* prompt, temperature."
                ),
            ):
                self._asked(inputs={"prompt": "Hi", name: 1, "temperature": 1})
        self.assertFalse(given)
        self.assertFalse(self.service.calls["chat"])

    def test_a_service_may_say_itself_what_its_chat_can_be_given(self):
        given = self._chats_with()
        names = {"fakedirect_chat_inputs": lambda _provider: {"odd"}}
        self.enterContext(self._offered("llm.provider", **names))
        self.assertEqual(self._asked({"content": "Hi"}, inputs={"odd": 1}).state, "completed")
        self.assertEqual(given["odd"], 1)

    def test_what_cannot_be_given_is_refused_also_where_a_provider_runs_no_job_after_all(self):
        self.service.answers["create"] = [NoJobInterfaceError("No.")]
        job = self._create_job("queued", generation_inputs={"prompt": "Hi", "odd": 1})
        self._process_queue()
        self.assertRecordValues(job, [{"state": "failed", "error_type": "bad_request"}])
        self.assertIn("cannot be given odd.", job.error_message)
        self.assertFalse(self.service.calls["chat"])

    # === WHAT COMES === #

    def test_an_emoji_that_is_split_over_two_events_stays_whole(self):
        job = self._asked(
            {"content": "a\ud83d"},
            {"content": "\ude00b\ud83d"},
            {"content": "c"},
            {"content": "\ud83d"},
        )
        self.assertEqual(job.state, "completed", job.error_message)
        self.assertIn("a\U0001f600b?c", job.output_message_id.body)

    def test_a_picture_that_comes_whole_is_stored(self):
        """Also where the thread makes an attachment with the address that the provider gave."""
        self.direct_model.model_use = "image_generation"
        made = [
            {"url": "data:image/png;base64,aGk=", "content_type": "image/png", "filename": "a.png"},
            {"url": "data:text/html,<script>", "content_type": "text/html", "filename": "a.html"},
            {"url": "https://example.com/b.png", "content_type": "image/png", "filename": "b.png"},
        ]
        generate = {"fakedirect_generate": lambda _provider, _inputs, **_how: ({}, made)}
        self.enterContext(self._offered("llm.provider", **generate))
        job = self._asked(inputs={"prompt": "A cat"})
        self.assertEqual(job.state, "completed", job.error_message)
        message = job.output_message_id.sudo()
        self.assertNotIn("data:", message.body)
        shown, linked = message.attachment_ids.sorted("name")
        self.assertEqual(linked.url, "https://example.com/b.png")
        stored = shown
        if shown.type == "url":  # the family's, of what is stored
            stored = self.env["ir.attachment"].browse(int(shown.url.rpartition("/")[2]))
        self.assertEqual((stored.raw, stored.mimetype), (b"hi", "image/png"))
        self.assertIn(f"/web/content/{stored.id}", message.body)
        self.assertTrue(stored.with_user(self.user).has_access("read"))

    def test_a_thread_that_takes_addresses_is_given_one_of_a_picture_that_comes_whole(self):
        self.direct_model.model_use = "image_generation"
        made = [
            {"url": "data:image/png;base64,aGk=", "content_type": "image/png"},
            {"url": "data:nothing"},
            {"url": "https://example.com/b.png"},
        ]
        generate = {"fakedirect_generate": lambda _provider, _inputs, **_how: ({}, made)}
        self.enterContext(self._offered("llm.provider", **generate))
        given = []

        def respond(thread, _question):
            given.extend(thread.model_id.generate({"prompt": "A cat"})[1])
            message = thread.message_post(body="Made", llm_role="assistant", author_id=False)
            yield {"type": "message_create", "message": message.to_store_format()}

        self.enterContext(self._offered("llm.thread", _generate_response=respond))
        job = self._asked(inputs={"prompt": "A cat"})
        self.assertEqual(job.state, "completed", job.error_message)
        stored, linked = (file["url"] for file in given)
        self.assertEqual(linked, "https://example.com/b.png")
        file = self.env["ir.attachment"].browse(int(stored.removeprefix("/web/content/")))
        self.assertEqual((file.raw, file.mimetype), (b"hi", "image/png"))
        self.assertEqual((file.res_model, file.res_id), ("llm.thread", self.thread.id))
