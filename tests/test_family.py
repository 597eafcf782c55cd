from contextlib import suppress
from unittest.mock import patch

import requests

from odoo.exceptions import AccessError, UserError
from odoo.tests import tagged
from odoo.tools import mute_logger

from ..exceptions import TransientError
from ..runner.cursor import InlineCursor
from .common import LlmGenerationCommon
from .family import play_family

CALL = {"id": "call-1", "type": "function", "function": {"name": "look", "arguments": "{}"}}


BYTES = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")


def http_error(status, text="No", **headers):
    """Return what `raise_for_status()` raises."""
    response = requests.Response()
    response.status_code, response._content = (
        status,
        b'{"error": {"message": "%s"}}' % text.encode(),
    )
    response.headers.update(headers)
    return requests.HTTPError(text, response=response)


@tagged("post_install", "-at_install")
class TestFamily(LlmGenerationCommon):
    """Generations in a thread that answers as the public family's do."""

    def setUp(self):
        super().setUp()
        play_family(self)
        self.thread = self._create_thread(self.direct_model)
        # The family logs what it swallows; so does the engine what it does not know.
        self.enterContext(mute_logger("odoo.addons.llm_assistant.models.llm_thread"))
        self.enterContext(mute_logger("odoo.addons.llm_tool.models.mail_message"))

    def _asked(self, text="How are you?", **values):
        job = self.thread.enqueue_generation(text, **values)
        self._process_queue(self.direct)
        return job

    def _messages(self, *roles):
        domain = [("model", "=", "llm.thread"), ("res_id", "=", self.thread.id)]
        self.env.flush_all()  # the search of messages does not
        return self.env["mail.message"].search([*domain, ("llm_role", "in", roles)], order="id")

    def _tool(self):
        return self.env["llm.tool"].create({
            "name": "look",
            "description": "Looks",
            "implementation": self._tool_implementation(),
        })

    def _turns(self, *turns):
        """Have each call of the provider answer with the chunks of its turn."""
        left = list(turns)

        def chat(_provider, messages, **_kwargs):
            self.service.chunks = left.pop(0)
            return self.service.chat(messages)

        self.enterContext(self._offered("llm.provider", fakedirect_chat=chat))

    def test_an_answer_is_the_last_message(self):
        job = self._asked()
        self.assertEqual(job.state, "completed", job.error_message)
        self.assertIn("Hello", job.output_message_id.body)
        self.assertEqual(self._messages("assistant"), job.output_message_id)

    def test_what_the_thread_swallows_ends_the_job_by_its_meaning(self):
        for error, state, error_type in (
            (http_error(500), "failed", "transient"),
            (http_error(400), "failed", "bad_request"),
            (requests.ConnectionError("NewConnectionError: refused"), "queued", "transient"),
            (requests.ReadTimeout("read timed out"), "failed", "unknown_outcome"),
            (http_error(401), "queued", "authentication"),  # and the queue stops
        ):
            with self.subTest(error_type=error_type, error=error):
                self.service.chunks = [error]
                job = self._asked(max_retries=0)
                self.assertEqual((job.state, job.error_type), (state, error_type))
                if job.state == "queued":
                    job.action_cancel()  # or its next try comes before the next job
        self.assertEqual(self.direct_queue.queue_health, "critical")

    def test_a_rate_limit_waits_for_its_end_and_costs_no_retry(self):
        self.service.chunks = [http_error(429, **{"Retry-After": "7"})]
        job = self._asked()
        self.assertEqual((job.state, job.retry_count), ("queued", 0))
        self.assertTrue(self.direct_queue.paused_until)

    def test_an_error_that_the_service_caught_is_classified_by_its_cause(self):
        def chat(_provider, _messages, **_kwargs):
            try:
                yield {"content": "Half"}
                raise http_error(503)
            except requests.HTTPError as error:
                yield {"error": f"Something broke: {error}"}

        with self._offered("llm.provider", fakedirect_chat=chat):
            job = self._asked(max_retries=0)
        self.assertEqual(job.error_type, "overloaded")

    def test_an_error_of_which_only_a_text_is_left_is_the_providers(self):
        self.service.chunks = [{"error": "Something broke"}]
        job = self._asked(max_retries=0)
        self.assertEqual((job.state, job.error_type), ("failed", "provider_failed"))
        self.assertIn("Something broke", job.error_message)

    def test_no_answer_is_none(self):
        self.service.chunks, self.service.usage = [], None
        job = self._asked(max_retries=0)
        self.assertEqual((job.state, job.error_type), ("failed", "provider_failed"))

    def test_an_error_is_told_by_the_job_and_not_in_the_thread(self):
        self.service.chunks = [http_error(500)]
        job = self._asked()
        self.assertEqual(job.state, "failed")
        self.assertFalse(self._messages("assistant") or job.output_message_id)
        self.service.chunks = [{"content": "Fine"}]
        job.action_retry()
        self._process_queue(self.direct)
        self.assertEqual(job.state, "completed", job.error_message)
        self.assertEqual(self._messages("assistant").mapped("is_error"), [False])

    def _break_off(self, broken):
        """Return a job of a new thread whose answer breaks off after two chunks."""
        self.thread = self._create_thread(self.direct_model)
        self.service.chunks = [{"content": "Half"}, {"content": " an answer"}, broken]
        return self._asked()

    def test_half_an_answer_is_kept_and_is_none(self):
        for broken in ({"error": "The line is dead."}, TransientError("Dead."), BYTES):
            with self.subTest(broken=broken):
                job = self._break_off(broken)
                self.assertEqual(job.state, "failed")
                self.assertEqual(bool(job.retry_at), broken is not BYTES)
                self.assertIn("Half an answer", job.output_message_id.body)
                self.assertEqual(self._messages("assistant"), job.output_message_id)
                self.assertTrue(job.output_message_id.is_error)
                self.service.chunks = [{"content": "Fine"}]
                other = self._asked("And now?")
                self.assertEqual(other.state, "completed", other.error_message)
                asked = self.service.calls["chat"][-1]
                self.assertEqual([message.llm_role for message in asked], ["user", "user"])

    def test_the_last_words_before_an_error_are_kept(self):
        # A read is a transaction to the cursor of tests, and none to the engine's.
        with patch.object(InlineCursor, "in_transaction", False, create=True):
            job = self._break_off({"error": "The line is dead."})
        self.assertIn("Half an answer", job.output_message_id.body)

    def test_nothing_is_left_of_half_an_answer_once_a_retry_answers(self):
        for broken in ({"error": "The line is dead."}, TransientError("Dead.")):
            with self.subTest(broken=broken):
                job = self._break_off(broken)
                self.service.chunks = [{"content": "Fine"}]
                job.action_retry()
                self._process_queue(self.direct)
                self.assertEqual(job.state, "completed", job.error_message)
                self.assertEqual(self._messages("assistant"), job.output_message_id)
                self.assertFalse(job.output_message_id.is_error)

    def test_an_error_after_a_tool_is_gone_once_a_retry_answers(self):
        done = self._with_tool([{"tool_calls": [CALL]}], [http_error(500)], [{"content": "Seen."}])
        job = self._asked()
        turn = self._messages("assistant")[0]
        job.action_retry()
        self._process_queue(self.direct)
        self.assertEqual(job.state, "completed", job.error_message)
        self.assertEqual(len(done), 1)
        self.assertEqual(self._messages("assistant"), turn | job.output_message_id)

    def test_the_half_of_another_question_is_not_removed_with_that_of_a_retry(self):
        job = self._break_off(TransientError("Dead."))
        other = self._asked("And now?")
        left = self._messages("assistant").filtered(
            lambda one: one.parent_id == other.input_message_id
        )
        self.service.chunks = [{"content": "Fine"}]
        job.action_retry()
        self._process_queue(self.direct)
        self.assertTrue(left)
        self.assertEqual(self._messages("assistant"), left | job.output_message_id)

    def test_bytes_that_are_no_text_are_unreadable_in_the_providers_call_only(self):
        self.service.chunks = [BYTES]
        job = self._asked()
        self.assertEqual((job.state, job.error_type), ("failed", "unreadable"))
        self.assertFalse(job.retry_at)
        thread_class = type(self.env["llm.thread"])
        with (
            patch.object(thread_class, "message_post", side_effect=BYTES),
            mute_logger("odoo.addons.llm_generate_job.engine.execute"),
        ):
            self.service.chunks = [{"content": "Hello"}]
            job.action_retry()
            self._process_queue(self.direct)
        self.assertEqual((job.state, job.error_type), ("failed", "internal"))

    def test_without_what_generates_the_job_says_what_is_missing(self):
        refusal = UserError("Install llm_assistant.")
        thread_class = type(self.env["llm.thread"])
        with patch.object(thread_class, "generate_messages", side_effect=refusal):
            job = self._asked()
        self.assertEqual((job.state, job.error_type), ("failed", "bad_request"))
        self.assertIn("llm_assistant", job.error_message)

    def test_two_questions_of_a_thread_get_an_answer_each(self):
        jobs = [self.thread.enqueue_generation(text) for text in ("first", "second")]
        self._process_queue(self.direct)
        asked = [list(messages) for messages in self.service.calls["chat"]]
        first, second = (job.input_message_id for job in jobs)
        self.assertEqual(asked, [[first], [first, jobs[0].output_message_id, second]])
        self.assertEqual([job.state for job in jobs], ["completed", "completed"])

    def test_usage_is_counted_by_length_where_nobody_tells(self):
        self.service.usage = None
        job = self._asked("x" * 400)
        self.assertGreaterEqual(job.prompt_tokens, 100)
        self.assertEqual(job.completion_tokens, 2)

    def _with_tool(self, *turns):
        done = []

        def execute(tool, parameters):
            done.append(parameters)
            tool.env.user.partner_id.comment = f"{len(done)} times"
            return {"seen": True}

        self.thread.sudo().tool_ids = self._tool()
        self._turns(*turns)
        self.enterContext(self._offered("llm.tool", execute=execute))
        return done

    def test_a_tool_speaks_from_within_a_savepoint(self):
        done = self._with_tool([{"tool_calls": [CALL]}], [{"content": "Seen."}])
        job = self._asked()
        self.assertEqual(job.state, "completed", job.error_message)
        self.assertEqual(len(done), 1)
        self.assertEqual(self._messages("tool").body_json["result"], {"seen": True})
        self.assertEqual(self._messages("tool").body_json["status"], "completed")
        self.assertIn("Seen.", job.output_message_id.body)
        self.assertIn("1 times", self.user.partner_id.comment)

    def test_a_tool_writes_no_answer_of_its_job(self):
        refusals = []

        def execute(tool, _parameters):
            job = tool.env["llm.generation.job"].search([("thread_id", "=", self.thread.id)])
            values = {"state": "cancelled", "external_job_id": "of-another"}
            try:
                job.write(values)
            except AccessError as refusal:
                refusals.append(refusal)
            return {"seen": True}

        self._with_tool([{"tool_calls": [CALL]}], [{"content": "Seen."}])
        with self._offered("llm.tool", execute=execute):
            job = self._asked()
        self.assertEqual(len(refusals), 1)
        self.assertEqual((job.state, job.external_job_id), ("completed", False))

    def test_a_tool_and_then_nothing_is_no_answer(self):
        self._with_tool([{"tool_calls": [CALL]}], [])
        job = self._asked(max_retries=0)
        self.assertEqual((job.state, job.error_type), ("failed", "provider_failed"))

    def test_what_fails_after_the_answer_leaves_it_whole(self):
        """An addon that asks once more, for a title, and goes on without one."""
        inherited = type(self.env["llm.thread"]).generate_messages

        def generate_messages(thread, last_message=None):
            last = yield from inherited(thread, last_message)
            self.service.chunks = [http_error(500)]
            with suppress(requests.HTTPError):
                list(thread.provider_id.chat([], model=thread.model_id, stream=True))
            return last  # noqa: B901 - to "yield from"

        with self._offered("llm.thread", generate_messages=generate_messages):
            job = self._asked()
        self.assertEqual(job.state, "completed", job.error_message)
        self.assertIn("Hello", job.output_message_id.body)

    def test_a_tool_is_not_called_again_when_the_answer_after_it_fails(self):
        half = [{"content": "Half"}, http_error(500)]
        done = self._with_tool([{"tool_calls": [CALL]}], half, [{"content": "Seen."}])
        job = self._asked()
        self.assertEqual((job.state, job.error_type), ("failed", "transient"))
        turn, *rest = self._messages("assistant")
        self.assertEqual((turn.is_error, {one.is_error for one in rest}), (False, {True}))
        job.action_retry()
        self._process_queue(self.direct)
        self.assertEqual(job.state, "completed", job.error_message)
        self.assertEqual(len(done), 1)
        roles = [message.llm_role for message in self.service.calls["chat"][-1]]
        self.assertEqual(roles, ["user", "assistant", "tool"])
        self.assertEqual(self._messages("assistant"), turn | job.output_message_id)

    def test_a_tool_that_was_interrupted_is_told_to_the_model(self):
        done = self._with_tool([{"content": "I shall look."}])
        job = self.thread.enqueue_generation("Look")
        claim = self._claim(job)
        turn = self.thread.message_post(
            body="", body_json={"tool_calls": [CALL]}, llm_role="assistant", author_id=False,
            parent_id=job.input_message_id.id,
        )  # fmt: skip
        job.sudo().output_message_id = turn
        self._engine()._run(self._engine()._prefetch([claim])[0])
        self.assertEqual(job.state, "completed", job.error_message)
        self.assertFalse(done)
        self.assertEqual(self._messages("tool").body_json["tool_call_id"], "call-1")
        roles = [message.llm_role for message in self.service.calls["chat"][-1]]
        self.assertEqual(roles, ["user", "assistant", "tool"])
