from datetime import datetime, timedelta

from odoo import fields
from odoo.exceptions import UserError
from odoo.tests import new_test_user

from odoo.addons.llm_generate_job.tests.common import LlmGenerationCommon, user_groups

#: Of a job whose inputs are `{"prompt": "Hi", "max_tokens": 100}`.
ESTIMATE = 100 + len('{"prompt": "Hi", "max_tokens": 100}') // 4


class TestLlmGenerationBudget(LlmGenerationCommon):
    """What is reserved when a job is queued, and what becomes of it."""

    def setUp(self):
        super().setUp()
        self.company = self.user.company_id
        self.addCleanup(self.env.registry.clear_cache)

    def _draft(self, **values):
        inputs = {"prompt": "Hi", "max_tokens": 100}
        return self._create_job(**{"generation_inputs": inputs, **values})

    def _spent(self, user=None):
        user = user or self.user
        spent = self._engine()._spent([("user", user.id)])
        return tuple(spent.get(("user", user.id), (0, 0)))

    def test_without_a_budget_nothing_is_counted_and_nothing_asked(self):
        self._draft().action_queue()  # fills the caches of the registry
        job = self._draft()
        reservation = self._engine().with_env(job.env)
        self.env.flush_all()
        with self.assertQueryCount(0):
            reservation._reserve(job, ("draft",))
            reservation._settle(job)
        self.assertEqual(self._spent(), (0, 0))

    def test_jobs_beyond_the_budget_are_refused_with_a_way_out(self):
        self.company.llm_user_daily_jobs = 2
        for _job in range(2):
            self._draft().action_queue()
        late = self._draft()

        refusal = self._refusal(late.with_user(self.user).action_queue)

        self.assertEqual(late.state, "draft")
        self.assertIn(f"The budget of {self.user.name} is 2 jobs a day: 2 are used", refusal)
        self.assertIn("It is free again on", refusal)
        self.assertRegex(refusal, "ask .+")
        self.assertEqual(self._spent(), (2, 2 * ESTIMATE))

    def test_many_jobs_are_queued_together_or_not_at_all(self):
        self.company.llm_user_daily_jobs = 2
        jobs = self._draft() + self._draft() + self._draft()
        self.assertIn("this needs 3", self._refusal(jobs.action_queue))
        self.assertEqual(set(jobs.mapped("state")), {"draft"})
        jobs[:2].action_queue()
        self.assertEqual(jobs.mapped("state"), ["queued", "queued", "draft"])

    def test_tokens_are_estimated_first_and_settled_in_the_end(self):
        self.company.llm_daily_tokens = 3 * ESTIMATE
        job = self._draft()
        job.action_queue()
        self.assertEqual(self._spent(), (1, ESTIMATE))
        claim = self._claim(job)
        self._apply(claim, state="completed", usage={"prompt_tokens": 7, "completion_tokens": 2})
        self.assertEqual(self._spent(), (1, 9))

        (self._draft() + self._draft()).action_queue()
        refusal = self._refusal(self._draft().action_queue)
        self.assertIn(f"The budget of {self.company.name} is {3 * ESTIMATE} tokens a day", refusal)

    def test_what_never_started_is_given_back(self):
        self.company.llm_user_daily_jobs = 1
        job = self._draft()
        job.action_queue()
        job.action_cancel()
        self.assertEqual(self._spent(), (0, 0))
        self._draft().action_queue()

    def test_what_started_is_paid(self):
        self.company.llm_user_daily_jobs = 10
        cases = (("cancel", ESTIMATE), ("bad_request", 0), ("timeout", ESTIMATE))
        for number, (how, tokens) in enumerate(cases, 1):
            with self.subTest(how):
                before = self._spent()
                job = self._draft()
                job.action_queue()
                claim = self._claim(job)
                if how == "cancel":
                    job.action_cancel()
                else:
                    job.max_retries = 0
                    self._apply(claim, state="failed", error_type=how)
                self.assertEqual(self._spent(), (number, before[1] + tokens))

    def test_a_retry_costs_again(self):
        self.company.llm_user_daily_jobs = 1
        job = self._draft()
        job.action_queue()
        self._claim(job)
        job.action_fail("It broke.")
        self.assertIn("1 are used", self._refusal(job.action_retry))
        self.assertEqual(job.state, "failed")
        self.company.llm_user_daily_jobs = 2
        job.action_retry()
        self.assertEqual((job.state, self._spent()[0]), ("queued", 2))

    def test_what_is_given_back_to_the_queue_stays_reserved_once(self):
        self.company.llm_user_daily_jobs = 1
        job = self._draft()
        job.action_queue()
        self._apply(self._claim(job), state="failed", error_type="rate_limited", retry_after=5)
        self.assertEqual((job.state, self._spent()), ("queued", (1, ESTIMATE)))

    def test_a_reservation_goes_with_its_transaction(self):
        self.company.llm_user_daily_jobs = 1
        job = self._draft()
        savepoint = self.env.cr.savepoint()
        job.action_queue()
        self.assertEqual(self._spent()[0], 1)
        savepoint.close(rollback=True)
        self.env.invalidate_all(flush=False)
        self.assertEqual(self._spent()[0], 0)
        job.action_queue()

    def test_whoever_queues_finds_nothing_half_way(self):
        self.company.llm_user_daily_jobs = 1
        thread = self._create_thread().with_user(self.user)
        thread.enqueue_generation("First.")
        before = (len(thread.message_ids), len(thread.generation_job_ids))
        with self.assertRaisesRegex(UserError, "The budget of"):
            thread.enqueue_generation("Second.")
        self.env.invalidate_all()
        self.assertEqual((len(thread.message_ids), len(thread.generation_job_ids)), before)

    def test_a_deleted_thread_gives_nothing_back(self):
        self.company.llm_user_daily_jobs = 1
        job = self._draft()
        job.action_queue()
        self._claim(job)
        job.action_complete()
        job.thread_id.unlink()
        self.assertIn("1 are used", self._refusal(self._draft().action_queue))

    def test_a_new_day_has_a_new_budget(self):
        self.company.llm_user_daily_jobs = 1
        self._draft().action_queue()
        self.env["llm.generation.spending"].search([]).day -= timedelta(days=1)
        self._draft().action_queue()
        self.assertEqual(self._spent()[0], 1)

    def test_an_automatic_retry_waits_for_the_next_day(self):
        self.company.llm_user_daily_jobs = 2
        other = new_test_user(self.env, "generation_other", user_groups(self.env))
        due = [self._create_job("failed", user=user) for user in (self.user, self.user, other)]
        jobs = due[0] + due[1] + due[2]
        jobs.retry_at = fields.Datetime.now() - timedelta(seconds=1)
        self.company.llm_user_daily_jobs = 1
        self.env["llm.generation.spending"].search([]).unlink()

        self.assertEqual(self._engine()._retry_due(), 2)

        self.assertEqual(jobs.mapped("state"), ["queued", "failed", "queued"])
        midnight = self._engine()._tomorrow()
        self.assertEqual(jobs[1].retry_at, midnight)
        self.assertLessEqual(midnight - fields.Datetime.now(), timedelta(days=1))

    def test_an_automatic_retry_that_no_day_allows_for_is_given_up(self):
        job = self._create_job("failed")
        job.retry_at = fields.Datetime.now() - timedelta(seconds=1)
        self.company.llm_user_daily_tokens = 1
        ended = []
        hook = {"_on_generation_job_done": lambda _thread, job: ended.append(job.id)}
        with self._offered("llm.thread", **hook):
            self.assertEqual(self._engine()._retry_due(), 0)
        self.assertEqual((job.state, job.retry_at, ended), ("failed", False, [job.id]))

    def test_bulk_retries_do_what_is_affordable(self):
        jobs = self._create_job("failed") + self._create_job("failed")
        self.company.llm_user_daily_jobs = 1
        done = jobs.with_user(self.user).apply_bulk("retry")
        self.assertEqual(done, {"done": 1, "refused": {"the budget of the day is used up": 1}})
        self.assertEqual(self.queue.action_retry_failed_jobs(), 0)

    def test_old_spending_is_forgotten(self):
        self.company.llm_user_daily_jobs = 5
        (self._draft() + self._draft()).action_queue()
        spending = self.env["llm.generation.spending"].search([])
        spending[0].day = datetime.now().date() - timedelta(days=8)
        self.env["llm.generation.spending"]._gc_spending()
        self.assertEqual(spending.exists(), spending[1:])
