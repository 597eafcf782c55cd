from ast import literal_eval
from datetime import datetime, timedelta

from .common import LlmGenerationCommon


class TestLlmGenerationReport(LlmGenerationCommon):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.thread = cls._create_thread()

    def _ended(self, state, *, ended=None, thread=None, user=None, **values):
        return self.env["llm.generation.job"].create({
            "thread_id": (thread or self.thread).id,
            "user_id": (user or self.user).id,
            "state": state,
            "completed_at": ended or datetime.now(),
            **values,
        })

    def _group(self, groupby, *measures, user=None):
        Report = self.env["llm.generation.report"].with_user(user or self.manager)
        domain = [("provider_id", "in", (self.native + self.direct).ids)]
        return Report._read_group(domain, groupby, measures)

    def _measure(self, measure):
        ((value,),) = self._group([], measure)
        return value

    def test_only_what_has_ended_is_analysed(self):
        for state in ("draft", "queued", "running"):
            self._create_job(state)
        self.assertEqual(self._measure("__count"), 0)
        self._create_job("cancelled")
        self.assertEqual(self._measure("__count"), 1)

    def test_jobs_are_counted_by_provider_model_and_user(self):
        self._ended("completed")
        self._ended("failed", error_type="timeout")
        self._ended("completed", thread=self._create_thread(self.direct_model), user=self.manager)
        groups = self._group(["provider_id", "model_id", "user_id"], "completed:sum", "failed:sum")
        self.assertCountEqual(
            groups,
            [
                (self.native, self.native_model, self.user, 1, 1),
                (self.direct, self.direct_model, self.manager, 1, 0),
            ],
        )

    def test_errors_are_those_of_jobs_that_failed(self):
        self._ended("failed", error_type="timeout")
        self._ended("completed", error_type="overloaded")
        self.assertCountEqual(self._group(["error_type"], "__count"), [("timeout", 1), (False, 1)])

    def test_the_success_rate_leaves_cancelled_jobs_out(self):
        for state in ("completed", "completed", "completed", "failed", "cancelled"):
            self._ended(state)
        self.assertEqual(self._measure("success_rate:avg"), 0.75)

    def test_percentiles_are_those_of_the_group(self):
        for second in range(1, 101):
            self._ended("completed", duration=second, queue_duration=second / 10)
        self._ended("completed", duration=0, queue_duration=0)
        self._ended("cancelled", duration=9999, queue_duration=9999)
        self.assertEqual(self._measure("duration:avg"), 50.5)
        self.assertEqual(self._measure("duration_p50:avg"), 50.5)
        self.assertAlmostEqual(self._measure("duration_p95:avg"), 95.05)
        self.assertAlmostEqual(self._measure("wait_p50:avg"), 5.05)
        self.assertAlmostEqual(self._measure("wait_p95:avg"), 9.505)

    def test_tokens_are_added_up(self):
        self._ended("completed", prompt_tokens=5, completion_tokens=2)
        self._ended("failed", prompt_tokens=4)
        self.assertEqual(self._measure("tokens:sum"), 11)

    def test_tokens_of_all_attempts_are_paid(self):
        job = self._create_job("queued")
        for said in ("failed", "completed"):
            claim = self._claim(job)
            usage = {"prompt_tokens": 5, "completion_tokens": 2}
            self._apply(claim, state=said, usage=usage)
            if said == "failed":
                job.action_retry()
        self.assertEqual((job.attempt_count, job.prompt_tokens), (2, 5))
        self.assertEqual(self._measure("prompt_tokens:sum"), 10)
        self.assertEqual(self._measure("tokens:sum"), 14)

    def test_hours_are_those_of_the_user(self):
        self._ended("completed", ended=datetime(2026, 1, 15, 23, 30))
        for zone, local in (
            ("UTC", "2026-01-15 23:00"),
            ("Europe/Paris", "2026-01-16 00:00"),
            ("Asia/Kolkata", "2026-01-16 05:00"),
        ):
            with self.subTest(zone):
                self.env["llm.generation.report"].invalidate_model()
                report = self.env["llm.generation.report"].with_context(tz=zone)
                groups = report._read_group(
                    [("provider_id", "=", self.native.id)], ["clock_hour", "hour"], ["__count"]
                )
                self.assertEqual(groups, [(local, local[11:], 1)])

    def test_days_and_measures_come_as_the_views_ask_for_them(self):
        self._ended("completed", duration=4)
        groups = self.env["llm.generation.report"].formatted_read_group(
            [("provider_id", "=", self.native.id), ("completed_at", ">=", "today -6d")],
            ["completed_at:day"],
            ["__count", "duration_p95:avg"],
        )
        self.assertEqual([(one["__count"], one["duration_p95:avg"]) for one in groups], [(1, 4)])

    def test_users_see_their_own_and_managers_all(self):
        self._ended("completed")
        self._ended("completed", user=self.manager)
        self.assertEqual(self._group(["user_id"], "__count", user=self.user), [(self.user, 1)])
        self.assertCountEqual(
            self._group(["user_id"], "__count"), [(self.user, 1), (self.manager, 1)]
        )

    def test_managers_see_their_companies_only(self):
        company = self.env["res.company"].create({"name": "Elsewhere"})
        self._ended("completed", company_id=company.id)
        self.assertEqual(self._measure("__count"), 0)
        self.manager.company_ids += company
        managed = self.env["llm.generation.report"].with_user(self.manager)
        managed = managed.with_context(allowed_company_ids=company.ids)
        self.assertEqual(managed.search_count([("provider_id", "=", self.native.id)]), 1)

    def test_a_row_opens_its_job(self):
        job = self._ended("completed")
        row = self.env["llm.generation.report"].with_user(self.user).browse(job.id)
        action = row.action_open_job()
        self.assertEqual((action["res_model"], action["res_id"]), (job._name, job.id))

    def test_saved_views_can_be_drawn(self):
        self._ended("failed", error_type="timeout", ended=datetime.now() - timedelta(days=1))
        filters = self.env["ir.filters"].search([("model_id", "=", "llm.generation.report")])
        self.assertEqual(len(filters), 5)
        report = self.env["llm.generation.report"].with_user(self.manager)
        for saved in filters:
            with self.subTest(saved.name):
                self.assertTrue(report.search_count(saved._get_eval_domain()))
                context = literal_eval(saved.context)
                measures = [context["graph_measure"], *context["pivot_measures"]]
                specs = [_measure_spec(report, name) for name in measures]
                groupby = context["graph_groupbys"] + context["pivot_row_groupby"]
                groups = report.formatted_read_group(saved._get_eval_domain(), groupby, specs)
                self.assertTrue(groups)


def _measure_spec(report, name):
    """Return a measure as the web client asks for it."""
    return name if name == "__count" else f"{name}:{report._fields[name].aggregator}"
