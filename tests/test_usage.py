from ..exceptions import UnknownOutcomeError
from ..protocol.tokens import by_length, estimate
from ..runner.executor import CallRecorder
from .common import LlmGenerationCommon

USED = {"prompt_tokens": 7, "completion_tokens": 2}
WORDS = 3600
LONG = "word " * WORDS
#: What such an answer counts at least, by its length.
LONG_TOKENS = WORDS


class TestUsage(LlmGenerationCommon):
    """The tokens that an answer counts, however it ended: as told, else by its length."""

    def setUp(self):
        super().setUp()
        self.thread = self._create_thread(self.direct_model).with_user(self.user)

    def _asked(self, chunks, usage=None, words="How are you?"):
        self.service.chunks, self.service.usage = chunks, usage
        return self.thread.enqueue_generation(words)

    def _run(self):
        return self._process_queue(self.direct)

    def _used(self, job):
        return (job.state, job.prompt_tokens, job.completion_tokens)

    def test_a_usage_of_nothing_is_none(self):
        job = self._asked([{"content": LONG}], {"prompt_tokens": 0, "completion_tokens": 0})
        self._run()
        self.assertGreaterEqual(job.completion_tokens, LONG_TOKENS)

    def test_thoughts_that_only_the_total_has_are_used(self):
        for usage, used in (
            ({"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 103}, (9, 94)),
            ({"prompt_tokens": 9, "completion_tokens": 94, "total_tokens": 103}, (9, 94)),
            ({"input_tokens": 9, "output_tokens": 1, "total_tokens": 103}, (9, 94)),
            ({"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": "many"}, (9, 4)),
            ({"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 9}, (9, 4)),
        ):
            with self.subTest(usage):
                job = self._asked([{"content": "Hi"}], usage)
                self._run()
                self.assertEqual(self._used(job), ("completed", *used))

    def test_a_total_alone_is_not_taken_for_the_answer(self):
        job = self._asked([{"content": LONG}], {"total_tokens": 100_000})
        self._run()
        self.assertLess(job.completion_tokens, 100_000)

    def test_a_stream_that_tells_as_it_goes_and_breaks_counts_its_length(self):
        told = {"usage": {"prompt_tokens": 5, "completion_tokens": 1}}
        job = self._asked([told, {"content": LONG}, UnknownOutcomeError("Broke off.")])
        self._run()
        self.assertEqual(job.prompt_tokens, 5)
        self.assertGreaterEqual(job.completion_tokens, LONG_TOKENS)

    def test_what_was_streamed_is_known_though_the_process_is_killed(self):
        known = []
        self._commit_each_chunk()
        job = self._asked([])
        self.service.chunks = [
            {"content": LONG},
            lambda: known.append(self._values(job.attempt_ids, ["completion_tokens"])),
        ]
        self._run()
        self.assertGreaterEqual(known[0][0]["completion_tokens"], LONG_TOKENS)

    def test_an_answer_without_usage_counts_by_its_length(self):
        job = self._asked([{"content": LONG}], words=LONG)
        self._run()
        self.assertEqual(job.state, "completed", job.error_message)
        self.assertGreaterEqual(job.prompt_tokens, LONG_TOKENS)
        self.assertGreaterEqual(job.completion_tokens, LONG_TOKENS)

    def test_an_external_answer_without_usage_counts_by_its_length(self):
        thread = self._create_thread(self.native_model)
        job = thread.enqueue_generation(LONG)
        message = thread.message_post(body=LONG, llm_role="assistant")
        self._apply(self._claim(job), state="completed", output_message_id=message.id)
        self.assertGreaterEqual(job.prompt_tokens, LONG_TOKENS)
        self.assertGreaterEqual(job.completion_tokens, LONG_TOKENS)

    def test_a_cancelled_stream_counts_what_was_streamed(self):
        job = self._asked([])
        self.service.chunks = [
            {"content": "One "},
            {"content": LONG},  # of which nothing is written yet
            job.action_cancel,
            UnknownOutcomeError("Hung up."),
        ]
        self._run()
        self.assertEqual(job.state, "cancelled")
        self.assertGreaterEqual(job.completion_tokens, LONG_TOKENS)
        self.assertEqual(job.attempt_ids.completion_tokens, job.completion_tokens)

    def test_a_cancelled_stream_that_goes_on_counts_what_was_streamed(self):
        self._commit_each_chunk()
        job = self._asked([])
        self.service.chunks = [
            {"content": "One "},
            job.action_cancel,
            {"content": LONG},
            {"content": "too far"},
        ]
        self._run()
        self.assertEqual(job.state, "cancelled")
        self.assertGreaterEqual(job.completion_tokens, LONG_TOKENS)

    def test_a_broken_stream_counts_what_was_streamed(self):
        job = self._asked([{"content": LONG}, UnknownOutcomeError("Broke off.")])
        job.sudo().max_retries = 0
        self._run()
        self.assertEqual(job.state, "failed")
        self.assertGreaterEqual(job.completion_tokens, LONG_TOKENS)

    def test_each_try_of_a_job_counts_its_own(self):
        job = self._create_job("queued")
        limited = {"state": "failed", "error_type": "rate_limited", "retry_after": 5}
        self._apply(self._claim(job), **limited, usage=USED)
        self.assertEqual(job.state, "queued")
        self.queue.sudo().paused_until = False
        job.action_start()
        self._apply(self._claim(job), state="completed", usage=USED)
        self.assertEqual(job.attempt_ids.mapped("completion_tokens"), [2, 2])

    def test_a_failure_counts_what_the_provider_reports(self):
        job = self._asked([{"usage": USED}, {"error": "No."}])
        job.sudo().max_retries = 0
        self._run()
        self.assertEqual(self._used(job), ("failed", 7, 2))
        external = self._create_job("queued")
        external.max_retries = 0
        self._apply(self._claim(external), state="failed", error_message="No.", usage=USED)
        self.assertEqual(self._used(external), ("failed", 7, 2))

    def test_a_try_does_not_count_what_an_earlier_one_used(self):
        job = self._create_job("queued")
        self._apply(self._claim(job), state="failed", error_type="transient", usage=USED)
        job.action_retry()
        self.assertEqual(self._used(job), ("queued", 7, 2))
        self._apply(self._claim(job), state="failed", error_type="bad_request")
        self.assertEqual(self._used(job), ("failed", 0, 0))


class TestUsageOfTheFamily(LlmGenerationCommon):
    """What calls count that tell no usage, in the shapes that the family's providers give."""

    CALLS = [{"id": "1", "function": {"name": "look", "arguments": "word " * 80}}]

    def _used(self, answer, *args, **kwargs):
        """Return the usage of a call that is answered so: a stream if that is a list."""
        recorder = CallRecorder(is_direct=True)  # of others, words come together

        def method(*_args, **_kwargs):
            return iter(answer) if isinstance(answer, list) else answer

        said = recorder.ask(method, *args, **kwargs)
        if isinstance(answer, list):
            self.assertEqual(list(said), answer)
        self.cost = recorder.cost
        return recorder.usage

    def test_what_is_said_counts_in_each_shape(self):
        words = {"content": "word " * 80}
        for answer in (
            [{"content": "word "}] * 80,
            [{"role": "assistant", "content": "word "}] * 80,
            [words, {"usage": None}],
            words,
            {"role": "assistant", **words},
            ({"raw_response": "word " * 80, "inputs": {"prompt": LONG}, "provider": "x"}, []),
            [{"content": ({"raw_response": "word " * 80, "inputs": {"prompt": LONG}}, [])}],
        ):
            with self.subTest(answer=answer):
                self.assertEqual(self._used(answer, "Hi")["completion_tokens"], 100)

    def test_calls_of_tools_and_thoughts_are_said_too(self):
        for answer in (
            [{"tool_calls": self.CALLS}],
            {"tool_calls": self.CALLS},
            [{"thinking": "word " * 80}],
        ):
            with self.subTest(answer=answer):
                self.assertGreaterEqual(self._used(answer, "Hi")["completion_tokens"], 100)

    def test_an_error_is_not_said_and_costs_nothing(self):
        for answer in ([{"error": "It broke."}], {"error": "It broke."}):
            with self.subTest(answer=answer):
                self.assertEqual(self._used(answer, "Hi"), {})
                self.assertEqual(self.cost, {"prompt_tokens": 0, "completion_tokens": 0})
        used = self._used([{"content": "word " * 80}, {"error": "It broke."}], "Hi")
        self.assertEqual(used["completion_tokens"], 100)

    def test_messages_count_whoever_reads_them(self):
        thread = self._create_thread(self.direct_model)
        messages = self.env["mail.message"]
        for _turn in range(3):
            messages |= thread.message_post(body="word " * 80, llm_role="user")
        size = sum(len(message.body) for message in messages)
        for given in (
            messages,
            messages.with_user(self.user),
            messages.with_user(self.user).sudo(),
        ):
            with self.subTest(su=given.env.su, user=given.env.uid):
                given.invalidate_recordset()
                for used in (
                    self._used({"content": "Hi"}, given, model=self.direct_model, stream=True),
                    self._used({"content": "Hi"}, messages=given),
                ):
                    self.assertEqual(used["prompt_tokens"], by_length(size))
                self.assertGreaterEqual(estimate([given], {}), by_length(size))
                self.assertEqual(estimate([given], {}), estimate([], {"messages": given}))

    def test_all_that_the_model_reads_is_given(self):
        for how in (
            {"input_data": {"prompt": LONG, "steps": 4}},
            {"prepend_messages": [{"role": "system", "content": LONG}]},
        ):
            with self.subTest(how=list(how)):
                used = self._used({"content": "Hi"}, **how)
                self.assertGreaterEqual(used["prompt_tokens"], LONG_TOKENS)
                self.assertGreaterEqual(estimate([], how), LONG_TOKENS)
        self.assertEqual(
            estimate([], {"input_data": {"max_tokens": 7}}), estimate([{"max_tokens": 7}], {})
        )

    def test_tools_count_what_they_are_described_by(self):
        tools = self.env["llm.tool"].search([], limit=3)
        if not tools:
            self.fail("The stack brings tools.")
        used = self._used({"content": "Hi"}, "Hi", tools=tools)
        size = sum(len(tool.description or "") for tool in tools)
        self.assertGreater(used["prompt_tokens"], by_length(size))
