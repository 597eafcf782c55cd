import itertools

from odoo.addons.llm_generate_job.tests.fake_http import error, json_reply, reset

from .common import FakeFal, LlmFalAiCommon

JOBS = 200
#: Seconds: how long fal is away, and for how long it keeps a small and a large result.
OUTAGE, KEPT, KEPT_LARGE = 300, 3600, 360
#: Questions that one server asks in a second: eight at once, each of which takes as long.
CAPACITY = 8
#: Seconds between two looks at what is due, during the outage and after it.
SLOW, FAST = 60, 10
TABLES = {
    "llm_generation_job": ("started_at", "next_poll_at", "result_expires_at", "queued_at"),
    "llm_generation_queue": ("paused_until",),
}


class ForgetfulFal(FakeFal):
    """fal with a clock: it forgets results in time, every other one being large."""

    def reset(self):
        self.now, self.finished_at = 0, None
        return super().reset()

    def _get(self, parts):
        number = int(parts[parts.index("requests") + 1].removeprefix("req-"))
        kept = KEPT_LARGE if number % 2 else KEPT
        if self.finished_at is not None and self.now >= self.finished_at + kept:
            return json_reply({"detail": "Request not found"}, 404)
        return super()._get(parts)


class TestOutage(LlmFalAiCommon):
    """Five minutes without fal, on a clock of our own. Its webhooks of that time are lost."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.remote = ForgetfulFal()
        cls.addClassCleanup(cls.remote.close)
        cls.provider.api_base = cls.remote.url

    def _pass(self, seconds):
        """Let time pass: all that is due comes nearer."""
        self.env.flush_all()
        for table, columns in TABLES.items():
            moved = (f"{name} = {name} - interval '{seconds} seconds'" for name in columns)
            self.env.cr.execute(f"UPDATE {table} SET {', '.join(moved)}")
        self.env.invalidate_all()
        self.remote.now += seconds

    def _work(self, seconds):
        """Ask about what is due, as much as a server can in so many seconds."""
        claims = self._engine()._claim_polls(CAPACITY * seconds)
        self.assertLessEqual(len(claims), CAPACITY * seconds)
        for job_context in self._engine()._prefetch(claims):
            self._engine()._poll(job_context)
        return len(claims)

    def _submitted_jobs(self):
        queue = self.env["llm.generation.queue"]._get_or_create_queue(self.provider)
        queue.max_concurrent_jobs = JOBS
        thread = self._create_thread(self.model)
        jobs = self.env["llm.generation.job"].create([
            {"thread_id": thread.id, "generation_inputs": {"prompt": f"{number}"}}
            for number in range(JOBS)
        ])
        jobs.action_queue()
        self._process_queue(self.provider)
        self.assertEqual(set(jobs.mapped("state")), {"running"})
        return jobs

    def test_no_result_is_lost(self):
        jobs = self._submitted_jobs()
        self.remote.state, self.remote.finished_at = "completed", self.remote.now
        mishaps = itertools.cycle([error("overloaded"), reset, error("transient"), error("quota")])

        while self.remote.now < OUTAGE:
            self.remote.faults = list(itertools.islice(mishaps, JOBS))
            self._pass(SLOW)
            self.assertEqual(self._work(SLOW), JOBS)
        self.assertEqual(set(jobs.mapped("state")), {"running"})

        self.remote.faults = []
        while self.remote.now < KEPT_LARGE:
            self._pass(FAST)
            self._work(FAST)

        self.assertEqual(set(jobs.mapped("state")), {"completed"})
        self.assertEqual(len(jobs.output_message_id), JOBS)
        self.assertEqual(self.remote.submitted, JOBS)
