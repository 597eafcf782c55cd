import contextlib
from datetime import timedelta
from unittest.mock import patch

from odoo import fields
from odoo.exceptions import UserError
from odoo.tools import mute_logger

from ..exceptions import RateLimitedError, TransientError
from ..runner import thread_lock
from ..runner.notifier import private_connection
from .common import LlmGenerationCommon


class TestDirectGeneration(LlmGenerationCommon):
    """Providers without jobs of their own are served in the background, into the thread."""

    def setUp(self):
        super().setUp()
        self._commit_each_chunk()
        self.thread = self._create_thread(self.direct_model)

    def _asked(self, **values):
        return self.thread.enqueue_generation("How are you?", **values)

    def _run(self):
        return self._process_queue(self.direct)

    def _answers(self):
        messages = self.thread.sudo().message_ids.sorted("id")
        return messages.filtered(lambda message: message.llm_role == "assistant")

    def test_the_answer_is_in_the_thread(self):
        job = self._asked()
        self.assertEqual(self._run(), 1)
        self.assertEqual(job.state, "completed", job.error_message)
        self.assertEqual(self._answers(), job.output_message_id)
        self.assertIn("Hello", job.output_message_id.body)
        self.assertFalse(job.external_job_id)
        self.assertEqual(len(self.service.calls["chat"]), 1)

    def test_what_brings_nothing_new_is_not_kept_again(self):
        self._needs(hasattr(self.thread, "get_conversation"), "that writes nothing in advance")
        self.service.chunks = [{"content": "Hello"}]
        self._asked()
        engine = type(self.env["llm.generation.engine"])
        with patch.object(
            engine, "_checkpoint", autospec=True, side_effect=engine._checkpoint
        ) as checkpoint:
            self._run()
        self.assertEqual(checkpoint.call_count, 1)
        self.assertIn("Hello", self._answers().body)

    def test_a_question_follows_from_no_message(self):
        for _turn in range(2):
            job = self._asked()
            self._run()
            self.assertFalse(job.input_message_id.parent_id)
            self.assertEqual(job.output_message_id.parent_id, job.input_message_id)

    def test_that_a_provider_runs_no_jobs_is_no_error_of_it(self):
        """A thread that answers, or says why not, without having asked it."""
        for is_error, ended in (
            (False, ("completed", False)),
            (True, ("failed", "provider_failed")),
        ):

            def generate_messages(thread, _last_message=None, is_error=is_error):
                message = thread.message_post(
                    body="Mine", llm_role="assistant", author_id=False, is_error=is_error
                )
                yield {"type": "message_create", "message": message.to_store_format()}
                return message  # noqa: B901 - to "yield from"

            with (
                self.subTest(is_error=is_error),
                self._offered("llm.thread", generate_messages=generate_messages),
            ):
                job = self._asked(max_retries=0)
                self._run()
                self.assertEqual((job.state, job.error_type), ended, job.error_message)
        self.assertFalse(self.service.calls["chat"])

    def test_the_tokens_are_counted(self):
        job = self._asked()
        self._run()
        self.assertRecordValues(job, [{"prompt_tokens": 7, "completion_tokens": 2}])

    def test_an_answer_without_usage_counts_by_its_length(self):
        self.service.usage = None
        job = self._asked()
        self._run()
        self.assertRecordValues(job, [{"state": "completed", "completion_tokens": 2}])
        self.assertIn(job.prompt_tokens, range(3, 8))  # with the markup of the question

    def test_an_answer_that_breaks_off_is_kept_and_marked(self):
        for broken in ({"error": "The line is dead."}, TransientError("The line is dead.")):
            with self.subTest(broken=broken):
                self.thread = self._create_thread(self.direct_model)
                self.service.chunks = [{"content": "Half"}, {"content": " an answer"}, broken]
                job = self._asked()
                self._run()
                self.assertEqual(job.state, "failed")
                self.assertTrue(job.retry_at)
                self.assertTrue(job.output_message_id.is_error)
                self.assertIn("Half an answer", job.output_message_id.body)

    @mute_logger("odoo.addons.llm_generate_job.engine.liveness")
    def test_however_an_attempt_ends_its_half_answer_is_none(self):
        engine = self._engine()
        # No call comes back here that would free its slot.
        self.direct_queue.write({"job_timeout": 60, "max_concurrent_jobs": 20})
        an_hour_ago = fields.Datetime.now() - timedelta(hours=1)
        call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
        ends = {
            "timeout": (lambda _job, _claim: engine._fail_overdue(), "failed"),
            "shutdown": (lambda _job, claim: engine._snooze_claims([claim]), "queued"),
            "death": (lambda job, _claim: engine._rescue_job(job, external=False), "queued"),
            "by hand": (lambda job, _claim: job.action_fail("No."), "failed"),
            "success": (lambda job, _claim: job.action_complete(), "completed"),
            "cancel": (lambda job, _claim: job.action_cancel(), "cancelled"),
        }
        for name, (end, state) in ends.items():
            for data, is_answer in ((None, state in {"completed", "cancelled"}), ([call], True)):
                with self.subTest(name, data=data):
                    self.thread = self._create_thread(self.direct_model)
                    job = self._asked()
                    claim = self._claim(job)
                    said = self.thread.sudo().message_post(
                        body="Half", llm_role="assistant", author_id=False,
                        body_json=data and {"tool_calls": data},
                    )  # fmt: skip
                    values = {"output_message_id": said.id, "started_at": an_hour_ago}
                    job.sudo().write(values)
                    end(job.sudo(), claim)
                    self.assertEqual((job.state, said.is_error), (state, not is_answer))
                    if job.can_cancel:
                        job.action_cancel()

    def test_what_a_failed_job_calls_its_answer_is_none(self):
        job = self._asked()
        claim = self._claim(job)
        said = self.thread.message_post(body="Half", llm_role="assistant")
        self.assertTrue(self._apply(claim, state="failed", output_message_id=said.id))
        self.assertTrue(said.is_error)

    def test_a_message_of_another_conversation_is_left_alone(self):
        job = self._asked()
        self._claim(job)
        other = self._create_thread(self.direct_model).message_post(body="Hi", llm_role="assistant")
        job.sudo().output_message_id = other
        job.sudo().action_fail("No.")
        self.assertFalse(other.is_error)

    def test_an_answer_that_breaks_off_has_the_meaning_of_its_cause(self):
        broken = UserError("The provider failed.")
        self.service.chunks = [{"content": "Half"}, broken]
        for cause, error_type in (
            (type("TimeoutException", (Exception,), {})("Slow."), "unknown_outcome"),
            (RateLimitedError("Slow down.", retry_after=7), "rate_limited"),
            (None, "provider_failed"),
        ):
            with self.subTest(cause=cause):
                self.thread = self._create_thread(self.direct_model)
                broken.__cause__ = cause
                self.direct_queue.paused_until = False
                job = self._asked()
                self._run()
                self.assertEqual(job.error_type, error_type)

    def test_a_retry_replaces_the_half_answer(self):
        self.service.chunks = [{"content": "Half"}, TransientError("The line is dead.")]
        job = self._asked()
        self._run()
        half = job.output_message_id
        self.service.chunks = [{"content": "All of it"}]
        job.action_retry()
        self._run()
        self.assertEqual(job.state, "completed", job.error_message)
        self.assertFalse(half.exists())
        self.assertEqual(self._answers(), job.output_message_id)
        self.assertIn("All of it", job.output_message_id.body)

    def test_a_provider_is_asked_once_an_attempt_though_it_refuses(self):
        for refusal in (
            [{"error": "No."}],
            [UserError("The picture is too large.")],
            [RateLimitedError("Slow")],
            [],
        ):
            with self.subTest(refusal=refusal):
                self.thread = self._create_thread(self.direct_model)
                self.direct_queue.paused_until = False
                self.service.reset()
                self.service.chunks, self.service.usage = refusal, None
                job = self._asked()
                self._run()
                self.assertEqual(len(self.service.calls["chat"]), 1)
                if job.can_cancel:
                    job.action_cancel()

    def test_an_error_in_the_stream_is_the_providers_failure(self):
        self.service.chunks = [{"error": "Our model is out of order."}]
        job = self._asked()
        self._run()
        self.assertEqual((job.state, job.error_type), ("failed", "provider_failed"))
        self.assertIn("out of order", job.error_message)
        self.assertTrue(job.retry_at)

    def test_a_rate_limit_at_the_first_word_is_waited_out(self):
        self.service.chunks = [RateLimitedError("Slow", retry_after=60)]
        job = self._asked()
        self._run()
        self.assertEqual((job.state, job.retry_count), ("queued", 0))
        self.assertTrue(self.direct_queue.paused_until)
        self.assertFalse(self._answers())

    # === CANCELLING === #

    def test_nothing_is_posted_after_the_cancellation(self):
        job = self._asked()
        self.service.chunks = [{"content": "Hel"}, job.action_cancel, {"content": "lo"}]
        self._run()
        self.assertEqual(job.state, "cancelled")
        self.assertNotIn("Hello", self._answers().body)

    def test_a_cancelled_job_stops_reading(self):
        job = self._asked()
        read = []
        self.service.chunks = [
            {"content": "Hel"},
            job.action_cancel,
            {"content": "lo"},
            lambda: read.append("too far"),
            {"content": "!"},
        ]
        self._run()
        self.assertFalse(read)

    # === BUSY THREADS === #

    def test_a_busy_thread_is_waited_for(self):
        job = self._asked()
        with contextlib.closing(private_connection(self.env.cr.dbname)) as other:
            cursor = other.cursor()
            cursor.execute("SELECT pg_advisory_lock(%s)", [self.thread.id])
            self.assertEqual(self._run(), 1)
            self.assertRecordValues(
                job, [{"state": "queued", "retry_count": 0, "error_type": "busy"}]
            )
            self.assertTrue(job.scheduled_at)
            self.assertFalse(self.service.calls["chat"])
            cursor.execute("SELECT pg_advisory_unlock(%s)", [self.thread.id])
        job.action_start()
        self._run()
        self.assertEqual(job.state, "completed", job.error_message)

    def test_code_that_takes_the_lock_itself_is_let_in(self):
        dbname, taken = self.env.cr.dbname, []
        thread_class = type(self.env["llm.thread"])
        inherited = thread_class.generate_messages

        def generate_messages(thread, last_message=None):
            with contextlib.closing(private_connection(dbname)) as connection:
                cursor = connection.cursor()
                cursor.execute("SELECT pg_try_advisory_lock(%s)", [thread.id])
                taken.append(cursor.fetchone()[0])
                if not taken[-1]:
                    raise UserError(thread.env._("Busy."))
                yield from inherited(thread, last_message)

        with self._offered("llm.thread", generate_messages=generate_messages):
            job = self._asked()
            self._run()
        self.assertEqual(job.state, "completed", job.error_message)
        self.assertEqual(taken, [False, True])
        self.assertEqual(len(self.service.calls["chat"]), 1)

    def test_the_lock_is_let_go_however_it_ends(self):
        for chunks in ([{"content": "Hi"}], [{"error": "No"}], [ValueError("A bug")]):
            with self.subTest(chunks=chunks):
                self.thread = self._create_thread(self.direct_model)
                self.service.chunks = chunks
                self._asked()
                with mute_logger("odoo.addons.llm_generate_job.engine.execute"):
                    self._run()
                self.assertFalse(thread_lock.is_taken(self.env.cr.dbname, self.thread.id))

    # === CONVERSATIONS === #

    def test_each_question_gets_its_own_answer(self):
        first, second = self._asked(), self.thread.enqueue_generation("And you?")
        self._run()
        self.assertEqual((first | second).mapped("state"), ["completed", "completed"])
        self.assertEqual(first.output_message_id.parent_id, first.input_message_id)
        self.assertEqual(second.output_message_id.parent_id, second.input_message_id)

    def test_the_last_question_is_answered_when_none_is_asked(self):
        question = self.thread.message_post(body="Still there?", llm_role="user")
        job = self.thread.enqueue_generation()
        self.assertEqual(job.input_message_id, question)
        self._run()
        self.assertEqual(job.state, "completed", job.error_message)

    def test_an_answer_is_kept_whose_question_was_deleted_meanwhile(self):
        def chat(_provider, messages, **_kwargs):
            messages[-1:].sudo().unlink()
            yield {"content": "Fine."}

        with self._offered("llm.provider", fakedirect_chat=chat):
            job = self._asked()
            self._run()
        self.assertEqual(job.state, "completed", job.error_message)
        self.assertIn("Fine.", job.output_message_id.body)

    def _create_tool(self):
        return self.env["llm.tool"].create({
            "name": "look",
            "description": "Looks",
            "implementation": "search_records",
        })

    def test_tools_run_as_the_owner_of_the_job(self):
        seen = []
        tool = self._create_tool()

        def execute(tool, parameters):
            seen.append((tool.env.user, tool.env.su, parameters))
            return {"seen": True}

        self.thread.sudo().tool_ids = tool
        call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
        turns = iter([[{"tool_calls": [call]}], [{"content": "Seen."}]])

        def chat(_provider, messages, **_kwargs):
            self.service.chunks = next(turns)
            return self.service.chat(messages)

        with (
            self._offered("llm.tool", execute=execute),
            self._offered("llm.provider", fakedirect_chat=chat),
        ):
            job = self._asked()
            self._run()
        self.assertEqual(job.state, "completed", job.error_message)
        self.assertEqual(seen, [(self.user, False, {})])
        self.assertIn("Seen.", job.output_message_id.body)
        self.assertRecordValues(job, [{"prompt_tokens": 14, "completion_tokens": 4}])

    def test_tools_do_not_run_as_odoobot(self):
        tool = self._create_tool()
        thread = self._create_thread(self.direct_model, self.env.ref("base.user_root"))
        thread.tool_ids = tool
        job = thread.enqueue_generation("How are you?")
        self._run()
        self.assertEqual((job.state, job.error_type), ("failed", "access"))
        self.assertIn("OdooBot", job.error_message)
