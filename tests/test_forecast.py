from datetime import timedelta

from odoo import fields

from .common import LlmGenerationCommon


class TestForecast(LlmGenerationCommon):
    """How long a backlog takes: as it was measured, and nothing where nobody can know."""

    def setUp(self):
        super().setUp()
        self.env.user.tz = self.user.tz = "Europe/Berlin"
        now = fields.Datetime.now()
        runner = {"started_at": now, "heartbeat_at": now + timedelta(seconds=5), "name": "r"}
        self.env["llm.generation.runner"].sudo().create(runner)
        self.queue.max_concurrent_jobs = 2
        ended = {"state": "completed", "completed_at": now, "duration": 20.0}
        thread = self._create_thread()
        self.env["llm.generation.job"].create([{"thread_id": thread.id, **ended}] * 5)
        self.running = [self._create_job("running") for _number in range(2)]
        self.waiting = [self._create_job("queued") for _number in range(3)]

    def _card(self):
        dashboard = self.env["llm.generation.queue"].get_dashboard()
        return next(card for card in dashboard["cards"] if card["id"] == self.queue.id)

    def _said(self, job):
        self.env.invalidate_all()
        return job.with_user(self.user)._status_sentence()

    def test_who_waits_is_told_how_long(self):
        # Two that run are half done, and of 20 s each: (position + 1) * 20 / 2.
        for job, seconds in zip(self.waiting, (20, 30, 40), strict=True):
            self.assertTrue(self._said(job).endswith(f"Starts in about {seconds} seconds."))
        for duration, sentence in ((200.0, "about 7 minutes."), (9000.0, "about 5 hours.")):
            self.env["llm.generation.job"].search([("state", "=", "completed")]).write({
                "duration": duration
            })
            self.assertTrue(self._said(self.waiting[-1]).endswith(sentence))

    def test_the_card_says_when_the_backlog_is_done(self):
        now = fields.Datetime.context_timestamp(self.queue, fields.Datetime.now())
        ends = [now + timedelta(seconds=seconds) for seconds in (35, 45)]
        said = self._card()["forecast"]
        self.assertRegex(said, r"^The backlog is done at about .*\d+:\d\d.*\.$")
        self.assertTrue(any(f"{end.hour % 12 or 12}:{end.minute:02}" in said for end in ends), said)

    def test_a_limit_of_requests_counts(self):
        self.queue.requests_per_minute = 2
        self.assertIn("about 2 minutes", self._said(self.waiting[-1]))  # 3 * 60 / 2 = 90 s

    def test_where_it_would_be_a_guess_nothing_is_said(self):
        later = fields.Datetime.now() + timedelta(minutes=5)
        held = ({"enabled": False}, {"refused_by": "quota"}, {"paused_until": later},
                {"tokens_per_minute": 100})  # fmt: skip
        for values in held:
            with self.subTest(values=values):
                before = {name: self.queue[name] for name in values}
                self.queue.sudo().write(values)
                self._assert_silent()
                self.queue.sudo().write(before)
        self.assertIn("Starts in", self._said(self.waiting[0]))
        self.env["llm.generation.job"].search([("state", "=", "completed")], limit=1).unlink()
        self._assert_silent()

    def test_with_a_limit_of_a_model_nothing_is_said(self):
        self.env["llm.generation.model.limit"].create({
            "queue_id": self.queue.id, "model_id": self.native_model.id, "max_concurrent_jobs": 1
        })  # fmt: skip
        self._assert_silent()

    def test_without_a_server_nothing_is_said(self):
        self.env["llm.generation.runner"].sudo().search([]).unlink()
        self._assert_silent()

    def test_what_starts_at_once_needs_no_forecast(self):
        self.queue.max_concurrent_jobs = 9
        self.assertNotIn("Starts in", self._said(self.waiting[0]))

    def _assert_silent(self):
        self.env.invalidate_all()
        self.assertFalse(self._card()["forecast"])
        self.assertNotIn("Starts in", self._said(self.waiting[0]))
