from .common import LlmGenerationCommon

LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")


class TestAnswerLimits(LlmGenerationCommon):
    """A limit of the answer is one that the provider is told, or it is refused."""

    def _draft(self, model=None, **inputs):
        return self._create_job(
            model=model or self.native_model, generation_inputs={"prompt": "Hi", **inputs}
        )

    def test_what_is_no_limit_is_refused(self):
        for name in LIMITS:
            for value in (-1000, 0, True, False, 2.5, 100.0, "100", None, [5], 10**9):
                with self.subTest(name=name, value=value):
                    refusal = self._refusal(self._draft(**{name: value}).action_queue)
                    self.assertIn(f"{name} has to be a whole number from 1 to", refusal)

    def test_two_names_of_one_limit_are_refused(self):
        job = self._draft(max_tokens=5, max_completion_tokens=50_000)
        self.assertIn("give only one of them", self._refusal(job.action_queue))

    def test_each_name_of_a_limit_is_what_is_estimated(self):
        for name in LIMITS:
            with self.subTest(name):
                job = self._draft(**{name: 5000})
                job.action_queue()
                self.assertIn(job.estimated_tokens, range(5000, 5050))

    def test_a_limit_that_a_chat_is_not_told_is_refused(self):
        job = self._draft(self.direct_model, max_tokens=5)
        refusal = self._refusal(job.action_queue)
        self.assertIn("Direct cannot be told how long a chat's answer may be", refusal)
        self.assertEqual(job.state, "draft")

    def test_a_limit_is_sent(self):
        sent = []

        def chat(_provider, messages, max_tokens=None, max_completion_tokens=None, **kwargs):
            sent.append((max_tokens, max_completion_tokens, set(kwargs) & set(LIMITS)))
            return self.service.chat(messages)

        cases = (
            ("max_tokens", (5, None, set())),
            ("max_completion_tokens", (None, 5, set())),
            ("max_output_tokens", (5, None, set())),
        )
        with self._offered("llm.provider", fakedirect_chat=chat):
            for name, expected in cases:
                with self.subTest(name):
                    job = self._draft(self.direct_model, **{name: 5})
                    job.action_queue()
                    self._process_queue(self.direct)
                    self.assertEqual(job.state, "completed", job.error_message)
                    self.assertEqual(sent.pop(), expected)

    def test_a_limit_is_sent_though_the_thread_asks_for_more(self):
        sent = []

        def chat(_provider, messages, max_tokens=None, **_kwargs):
            sent.append(max_tokens)
            return self.service.chat(messages)

        def generous(thread, messages, _tools):
            return thread.provider_id.chat(
                messages, model=thread.model_id, stream=True, max_tokens=9000
            )

        with (
            self._offered("llm.provider", fakedirect_chat=chat),
            self._offered("llm.thread", _chat=generous),
        ):
            job = self._draft(self.direct_model, max_tokens=5)
            job.action_queue()
            self._process_queue(self.direct)
        self.assertEqual(sent, [5])

    def test_a_provider_that_gives_a_job_up_is_told_the_limit_or_not_asked(self):
        inherited = type(self.env["llm.provider"])._implements
        with self._offered(
            "llm.provider",
            _implements=lambda p, method: method == "create_generation_job" or inherited(p, method),
        ):
            job = self._draft(self.direct_model, max_tokens=5)
            job.action_queue()
        self._process_queue(self.direct)
        self.assertEqual((job.state, job.error_type), ("failed", "bad_request"))
        self.assertFalse(self.service.calls["chat"])
