import contextlib
from datetime import timedelta
from unittest.mock import patch

from odoo import fields
from odoo.exceptions import UserError

from odoo.addons.llm_generate_job.const import DEFAULT_ANSWER_TOKENS
from odoo.addons.llm_generate_job.exceptions import BadRequestError, UnknownOutcomeError
from odoo.addons.llm_generate_job.runner import thread_lock
from odoo.addons.llm_generate_job.tests.common import LlmGenerationCommon

USED = {"prompt_tokens": 7, "completion_tokens": 2}
WORDS = 3600
LONG = "word " * WORDS
#: What such an answer counts at least, by its length.
LONG_TOKENS = WORDS
LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")


class BudgetCase(LlmGenerationCommon):
    def setUp(self):
        super().setUp()
        self.company = self.user.company_id
        self.addCleanup(self.env.registry.clear_cache)
        self.company.llm_user_daily_tokens = 10**6
        self.thread = self._create_thread(self.direct_model).with_user(self.user)

    def _spent(self, kind="user", record=None):
        subject = (kind, (record or self.user).id)
        return tuple(self._engine()._spent([subject]).get(subject, (0, 0)))


class TestLlmGenerationBudgetWays(BudgetCase):
    """Whatever way an answer is asked for, it is reserved before and settled after, or refused."""

    def _ways(self):
        """Return a function for each way to an answer; each asks the provider once."""
        provider = self.direct.with_user(self.user)
        model = self.direct_model.with_user(self.user)
        messages = [{"role": "user", "content": "Hi"}]

        def generate(_provider, inputs, **_kwargs):
            said = [chunk.get("content", "") for chunk in self.service.chat(inputs)]
            return {"content": "".join(said)}, []

        provider_class = type(provider)
        self.startPatcher(
            patch.object(provider_class, "fakedirect_generate", generate, create=True)
        )
        return {
            "generate": lambda: list(self.thread.generate("Hi")),
            "response": lambda: list(self.thread.generate_response("Hi", use_queue=False)),
            "chosen": lambda: list(self.thread.generate_response("Hi")),
            "messages": lambda: list(self.thread.generate_messages(self._question())),
            "chat": lambda: list(provider.chat(messages, model=model, stream=True)),
            "model chat": lambda: list(model.chat(messages, stream=True)),
            "model generate": lambda: model.generate({"prompt": "Hi"}),
        }

    def _question(self):
        return self.thread.message_post(body="Hi", llm_role="user")

    def test_each_way_is_reserved_and_settled(self):
        seen = []
        for name, ask in self._ways().items():
            with self.subTest(name):
                before = self._spent()
                self.service.chunks = [lambda: seen.append(self._spent()), {"content": LONG}]
                self.service.usage = None
                ask()
                reserved, settled = seen.pop(), self._spent()
                self.assertEqual(reserved[0] - before[0], 1)
                self.assertGreaterEqual(reserved[1] - before[1], DEFAULT_ANSWER_TOKENS)
                self.assertEqual(settled[0] - before[0], 1)
                self.assertGreaterEqual(settled[1] - before[1], LONG_TOKENS)

    def test_each_way_is_refused_where_nothing_is_left(self):
        self._needs_errors_raised()
        ways = self._ways()
        self.company.llm_user_daily_jobs = 1
        self._create_job("queued")
        for name, ask in ways.items():
            with self.subTest(name), self.assertRaisesRegex(UserError, "is 1 jobs a day: 1 are"):
                ask()
        self.assertFalse(self.service.calls["chat"])
        self.assertEqual(self._spent()[0], 1)

    def test_a_refused_answer_leaves_no_question(self):
        self.company.llm_user_daily_tokens = 10
        self.assertIn("more than a whole day", self._refusal(list, self.thread.generate("Hi")))
        self.assertFalse(self._conversation(self.thread))

    def test_what_a_provider_tells_counts(self):
        list(self.thread.generate("Hi"))
        self.assertEqual(self._spent(), (1, 9))

    def test_an_answer_with_several_calls_counts_once(self):
        self._needs_errors_raised()  # the others commit between the calls, which no test may
        call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
        turns = iter([[{"tool_calls": [call]}], [{"content": "Seen."}]])
        self.thread.sudo().tool_ids = self.env["llm.tool"].create({
            "name": "look",
            "description": "Looks",
            "implementation": self._tool_implementation(),
        })

        def chat(_provider, messages, **_kwargs):
            self.service.chunks = next(turns)
            return self.service.chat(messages)

        with (
            self._offered("llm.tool", execute=lambda _tool, _parameters: {"seen": True}),
            self._offered("llm.provider", fakedirect_chat=chat),
        ):
            list(self.thread.generate("Hi"))
        self.assertEqual(self._spent(), (1, 18))

    def test_who_hangs_up_pays_what_came(self):
        self.service.chunks = [{"content": LONG}, {"content": LONG}]
        events = self.thread.generate("Hi")
        next(events)
        next(events)
        events.close()
        jobs, tokens = self._spent()
        self.assertEqual(jobs, 1)
        self.assertGreaterEqual(tokens, LONG_TOKENS)

    def test_a_direct_answer_that_fails(self):
        cases = (
            ([BadRequestError("No.")], 0),
            ([{"error": "No."}], 0),
            ([UnknownOutcomeError("Gone.")], DEFAULT_ANSWER_TOKENS),
            ([{"content": LONG}, BadRequestError("No.")], LONG_TOKENS),
            ([{"usage": {"prompt_tokens": 3, "completion_tokens": 400}}, {"error": "No."}], 403),
        )
        for chunks, least in cases:
            with self.subTest(chunks=str(chunks)[:40]):
                before = self._spent()
                self.service.chunks, self.service.usage = chunks, None
                with contextlib.suppress(Exception):
                    list(self.thread.generate("Hi"))
                after = self._spent()
                self.assertEqual(after[0] - before[0], 1)
                self.assertGreaterEqual(after[1] - before[1], least)
                self.assertLess(after[1] - before[1], 2 * least + 1)

    def test_a_busy_thread_costs_nothing(self):
        with thread_lock.hold(self.env.cr.dbname, self.thread.id):
            self._refusal(list, self.thread.generate("Hi"))
        self.assertEqual(self._spent(), (0, 0))

    def test_a_job_is_reserved_once(self):
        job = self.thread.enqueue_generation("Hi")
        self._process_queue(self.direct)
        self.assertEqual((job.state, self._spent()), ("completed", (1, 9)))

    def test_odoobot_spends_of_the_owner_for_whom_it_works(self):
        list(self.thread.with_user(self.env.ref("base.user_root")).generate("Hi"))
        self.assertEqual(self._spent(), (1, 9))

    def test_without_a_budget_a_direct_answer_asks_nothing(self):
        self.company.llm_user_daily_tokens = 0
        list(self.thread.generate("Hi"))
        self.assertFalse(self.env["llm.generation.spending"].search_count([]))


class TestLlmGenerationBudgetUsage(BudgetCase):
    """What an answer counts, however it ended."""

    def _asked(self, chunks, usage=None, words="How are you?"):
        self.service.chunks, self.service.usage = chunks, usage
        return self.thread.enqueue_generation(words)

    def _run(self):
        return self._process_queue(self.direct)

    def test_an_answer_without_usage_counts_by_its_length(self):
        job = self._asked([{"content": LONG}], words=LONG)
        self._run()
        self.assertEqual(job.state, "completed", job.error_message)
        self.assertGreaterEqual(job.prompt_tokens, LONG_TOKENS)
        self.assertGreaterEqual(job.completion_tokens, LONG_TOKENS)
        self.assertEqual(self._spent(), (1, job.prompt_tokens + job.completion_tokens))

    def test_an_external_answer_without_usage_counts_by_its_length(self):
        thread = self._create_thread(self.native_model)
        job = thread.enqueue_generation(LONG)
        message = thread.message_post(body=LONG, llm_role="assistant")
        self._apply(self._claim(job), state="completed", output_message_id=message.id)
        self.assertGreaterEqual(job.prompt_tokens, LONG_TOKENS)
        self.assertGreaterEqual(job.completion_tokens, LONG_TOKENS)
        self.assertEqual(self._spent(), (1, job.prompt_tokens + job.completion_tokens))

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
        self.assertEqual(self._spent(), (1, job.prompt_tokens + job.completion_tokens))

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
        self.assertGreaterEqual(self._spent()[1], LONG_TOKENS)

    def test_a_broken_stream_counts_what_was_streamed(self):
        job = self._asked([{"content": LONG}, UnknownOutcomeError("Broke off.")])
        job.sudo().max_retries = 0
        self._run()
        self.assertEqual(job.state, "failed")
        self.assertGreaterEqual(job.completion_tokens, LONG_TOKENS)
        self.assertEqual(self._spent(), (1, job.prompt_tokens + job.completion_tokens))

    def test_a_failure_counts_what_the_provider_reports(self):
        job = self._asked([{"usage": USED}, {"error": "No."}])
        job.sudo().max_retries = 0
        self._run()
        self.assertEqual((job.state, self._spent()), ("failed", (1, 9)))
        external = self._create_job("queued")
        external.max_retries = 0
        self._apply(self._claim(external), state="failed", error_message="No.", usage=USED)
        self.assertEqual((external.state, self._spent()), ("failed", (2, 18)))

    def test_each_try_of_a_job_counts_its_own(self):
        job = self._create_job("queued")
        limited = {"state": "failed", "error_type": "rate_limited", "retry_after": 5}
        self._apply(self._claim(job), **limited, usage=USED)
        self.assertEqual(job.state, "queued")
        self.queue.sudo().paused_until = False
        job.action_start()
        self._apply(self._claim(job), state="completed", usage=USED)
        self.assertEqual(self._spent(), (1, 18))
        self.assertEqual(job.attempt_ids.mapped("completion_tokens"), [2, 2])

    def test_a_try_does_not_count_what_an_earlier_one_used(self):
        job = self._create_job("queued")
        self._apply(self._claim(job), state="failed", error_type="transient", usage=USED)
        job.action_retry()
        self._apply(self._claim(job), state="failed", error_type="bad_request")
        self.assertEqual(self._spent(), (2, 9))

    def test_what_comes_late_does_not_count_for_a_later_try(self):
        job = self._create_job("queued")
        claim = self._claim(job)
        job.action_fail("It broke.")
        job.action_retry()
        before = self._spent()
        self._apply(claim, state="failed", error_type="cancelled", usage=USED)
        self.assertEqual(self._spent(), (before[0], before[1] + 9))
        self.assertFalse(job.completion_tokens and job.state == "completed")


class TestLlmGenerationBudgetRequest(BudgetCase):
    """What is reserved follows from the limit that the provider is told."""

    def _draft(self, **inputs):
        inputs = {"prompt": "Hi", **inputs}
        return self._create_job(model=self.native_model, generation_inputs=inputs)

    def test_each_name_of_a_limit_is_what_is_reserved(self):
        for name in LIMITS:
            with self.subTest(name):
                before = self._spent()[1]
                self._draft(**{name: 5000}).action_queue()
                self.assertIn(self._spent()[1] - before, range(5000, 5050))

    def test_what_is_refused_reserves_nothing(self):
        for inputs in ({"max_tokens": -1000}, dict.fromkeys(LIMITS, 5)):
            with self.subTest(inputs):
                self._refusal(self._draft(**inputs).action_queue)
        self.assertEqual(self._spent(), (0, 0))


class TestLlmGenerationBudgetCompanies(BudgetCase):
    """A user of two companies has one budget, and the company that pays has its own."""

    def setUp(self):
        super().setUp()
        self.elsewhere = self.env["res.company"].create({"name": "Elsewhere"})
        self.user.company_ids |= self.elsewhere

    def _queue(self):
        self._create_job().with_user(self.user).action_queue()

    def test_changing_the_own_company_gives_no_other_budget(self):
        self.company.llm_user_daily_jobs = 1
        for generous in (0, 100):
            with self.subTest(generous):
                self.env["llm.generation.spending"].search([]).unlink()
                self.elsewhere.llm_user_daily_jobs = generous
                self.user.company_id = self.company
                self._queue()
                self.user.company_id = self.elsewhere
                self.assertIn("is 1 jobs a day: 1 are used", self._refusal(self._queue))
                allowed = [self.elsewhere.id, self.company.id]
                thread = self.thread.with_context(allowed_company_ids=allowed)
                refusal = self._refusal(list, thread.generate("Hi"))
                self.assertIn("is 1 jobs a day: 1 are used", refusal)

    def test_the_company_that_pays_is_that_of_the_provider(self):
        self.company.llm_daily_jobs = 1
        self.user.company_id = self.elsewhere
        self.assertEqual((self.direct | self.native).company_id, self.company)
        list(self.thread.generate("Hi"))
        self.assertEqual(self._spent("company", self.company), (1, 9))
        self.assertIn(f"The budget of {self.company.name}", self._refusal(self._queue))
        job = self._create_job()
        left = "Left of today's budget: 0 jobs, 999991 tokens."
        self.assertEqual(job.with_user(self.user).budget_left, left)

    def test_no_other_company_is_chosen_to_pay_a_shared_provider(self):
        required = self.env["llm.provider"]._fields["company_id"].required
        self._needs(not required, "whose providers all companies can share")
        (self.direct | self.native).company_id = False
        self.company.llm_daily_jobs = 1
        self._queue()
        self.assertEqual(self._spent("company", self.company)[0], 1)
        self.user.company_id = self.elsewhere
        allowed = [self.elsewhere.id, self.company.id]
        self.thread.with_context(allowed_company_ids=allowed).company_id = self.elsewhere
        self.assertEqual(self.thread.company_id, self.elsewhere)
        job = self._create_job(thread_id=self.thread.id, model=self.direct_model)
        self.assertEqual(job.company_id, self.elsewhere)
        mine = job.with_user(self.user).with_context(allowed_company_ids=allowed)
        self.assertIn("0 jobs", mine.budget_left)
        for way in (mine.action_queue, lambda: list(self.thread.generate("Hi"))):
            self.assertIn(f"The budget of {self.company.name} is 1 jobs", self._refusal(way))
        self.company.llm_daily_jobs = 2
        mine.action_queue()
        self.assertEqual(self._spent("company", self.elsewhere)[0], 1)
        self.assertEqual(self._spent("company", self.company)[0], 1)
        job.action_fail("It broke.")
        self.company.llm_daily_jobs = 1
        self.assertFalse(job._may_retry())

    def _moved(self, job):
        """Have the conversation of a job go to a provider of the other company."""
        there = self._moves(job)
        self.assertEqual(job.provider_id, there)

    def _moves(self, job):
        there, model = self._create_provider(f"There {job.id}", "fakedirect")
        there.company_id = self.elsewhere
        companies = [self.company.id, self.elsewhere.id]
        thread = job.thread_id.with_user(self.user).with_context(allowed_company_ids=companies)
        thread.write({"provider_id": there.id, "model_id": model.id})
        return there

    def _paid(self):
        return [self._spent("company", one)[0] for one in (self.company, self.elsewhere)]

    def test_what_waits_and_goes_to_another_company_is_paid_there(self):
        self.elsewhere.llm_daily_jobs = 1
        job = self._create_job("queued", self.direct_model)
        self.assertEqual(self._paid(), [1, 0])
        self._moved(job)
        self.assertEqual(self._paid(), [0, 1])
        second = self._create_job("queued", self.direct_model)
        with self.assertRaisesRegex(UserError, "The budget of Elsewhere is 1 jobs"):
            self._moved(second)

    def test_what_was_given_back_goes_on_and_is_paid_all_the_same(self):
        self.elsewhere.llm_daily_jobs = 1
        job = self._create_job("queued", self.direct_model)
        self._moved(self._create_job("queued", self.direct_model))
        self._claim(job)
        job._set_state("queued")
        self._moved(job)
        self.assertEqual(self._paid(), [0, 2])

    def test_an_own_budget_is_one_in_all_companies(self):
        self.user.write({"llm_own_budget": True, "llm_daily_jobs": 1})
        self._queue()
        self.user.company_id = self.elsewhere
        self.assertIn("1 are used", self._refusal(self._queue))

    def _due(self, job):
        """Have a job fail whose retry is due, and its conversation go to another company."""
        self._claim(job)
        job._set_state("failed", error_type="transient", retry_at=fields.Datetime.now())
        self._moves(job)
        job.retry_at = fields.Datetime.now() - timedelta(seconds=1)

    def test_a_retry_is_paid_by_the_company_to_which_its_conversation_went(self):
        self.elsewhere.llm_daily_jobs = 1
        self._moved(self._create_job("queued", self.direct_model))
        job = self._create_job("queued", self.direct_model)
        self._due(job)
        self._engine()._retry_due()
        self.assertEqual((job.state, job.retry_at), ("failed", self._engine()._tomorrow()))

    def test_a_retry_that_is_refused_holds_up_no_other(self):
        jobs = self.env["llm.generation.job"]
        for _number in range(3):
            job = self._create_job("queued", self.direct_model)
            self._claim(job)
            job._set_state("failed", error_type="transient", retry_at=fields.Datetime.now())
            jobs += job
        jobs.write({"retry_at": fields.Datetime.now() - timedelta(seconds=1)})
        refused, before = jobs[1], type(jobs)._before_enqueue

        def refuse(some, sources):
            if refused in some:
                raise UserError(some.env._("Not this one."))
            return before(some, sources)

        with patch.object(type(jobs), "_before_enqueue", refuse):
            self._engine()._retry_due()
        self.assertEqual(jobs.mapped("state"), ["queued", "failed", "queued"])
        self.assertGreater(refused.retry_at, fields.Datetime.now() + timedelta(minutes=10))
