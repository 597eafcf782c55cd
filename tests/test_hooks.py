from unittest.mock import patch

from odoo import fields
from odoo.exceptions import UserError

from ..exceptions import BadRequestError, TransientError
from ..runner.messages import EVERYTHING
from .common import LlmGenerationCommon


class TestHooks(LlmGenerationCommon):
    """What other addons extend of jobs and of the engine; see the docstrings in `models/`."""

    def setUp(self):
        super().setUp()
        self.seen = []

    def _watch(self, name):
        """Have calls of a hook of jobs noted, with what they say."""
        original, seen = getattr(type(self.env["llm.generation.job"]), name), self.seen

        def hook(jobs, *args, **kwargs):
            told = [getattr(arg, "ids", arg) for arg in (*args, *kwargs.values())]
            seen.append((name, jobs.ids, jobs.mapped("state"), *told))
            return original(jobs, *args, **kwargs)

        self.enterContext(self._offered("llm.generation.job", **{name: hook}))

    def test_before_jobs_are_queued_they_can_be_refused_together(self):
        self._watch("_before_enqueue")
        jobs = self._create_job() + self._create_job()
        jobs.action_queue()
        self.assertEqual(self.seen, [("_before_enqueue", jobs.ids, ["draft"] * 2, ("draft",))])

        def refuse(jobs, sources):
            raise UserError(sources[0])

        drafts, failed = self._create_job() + self._create_job(), self._create_job("failed")
        with self._offered("llm.generation.job", _before_enqueue=refuse):
            self.assertEqual(self._refusal(drafts.action_queue), "draft")
            self.assertEqual(self._refusal(failed.action_retry), "failed")
        self.assertEqual((drafts + failed).mapped("state"), ["draft", "draft", "failed"])

    def test_each_move_is_told_with_the_jobs_that_ran(self):
        self._watch("_after_move")
        running, waiting = self._create_job("running"), self._create_job("queued")
        self.seen.clear()
        (running + waiting).action_cancel()
        both = (running + waiting).ids
        self.assertEqual(
            self.seen, [("_after_move", both, ["cancelled"] * 2, "cancelled", running.ids)]
        )
        job = self._create_job()
        self.seen.clear()
        job.action_queue()
        self._claim(job)
        job.action_complete()
        told = [(call[1], call[3], call[4]) for call in self.seen]
        self.assertEqual(told, [(job.ids, "queued", []), (job.ids, "completed", job.ids)])

    def test_an_end_is_told_when_no_retry_is_ahead(self):
        self._watch("_after_end")
        self.service.answers["create"] = [TransientError("Oops"), BadRequestError("No")]
        job = self._create_job("queued", max_retries=1)
        self._process_queue()
        self.assertTrue(job.retry_at)
        self.assertEqual(self.seen, [])
        job.retry_at = fields.Datetime.now()
        self._engine()._retry_due()
        self._process_queue()
        self.assertEqual(self.seen, [("_after_end", job.ids, ["failed"])])

    def test_the_end_is_told_when_a_retry_is_given_up(self):
        job = self._create_job("failed", identity_key="key")
        job.retry_at = fields.Datetime.now()
        self._create_job("queued", identity_key="key")
        self._watch("_after_end")
        self._engine()._retry_due()
        self.assertEqual(self.seen, [("_after_end", job.ids, ["failed"])])

    def test_no_retry_goes_past_who_may_hold_it_up(self):
        due, other = self._create_job("failed"), self._create_job("failed")
        due.retry_at = fields.Datetime.now()
        asked = []

        def none_may(jobs, *, is_due=False):
            asked.append((jobs.ids, is_due))
            return jobs.browse()

        def why(_jobs):
            return "it is night"

        with self._offered("llm.generation.job", _may_retry=none_may, _retry_refusal=why):
            self.assertEqual(self._engine()._retry_due(), 0)
            self.assertEqual(self.queue.action_retry_failed_jobs(), 0)
            done = (due + other).apply_bulk("retry")
        self.assertEqual(done, {"done": 0, "refused": {"it is night": 2}})
        both = sorted((due + other).ids)
        self.assertEqual(
            [(sorted(ids), is_due) for ids, is_due in asked],
            [(due.ids, True), (both, False), (both, False)],
        )
        self.assertEqual((due + other).mapped("state"), ["failed"] * 2)

    def test_what_an_addon_holds_back_waits_until_it_says_so(self):
        job = self._create_job("queued", scheduled_at="2999-01-01 00:00:00")
        engine = self._engine()
        self.assertGreater(engine._next_due(), 0)
        self.assertEqual(self._process_queue(), 0)

        def release(engine):
            job.with_env(engine.env).is_scheduled = False
            return 1

        woken = []
        with (
            self._offered("llm.generation.engine", _is_held_due=lambda _engine: True),
            patch.object(
                type(engine), "_wake", lambda _engine, what=EVERYTHING: woken.append(what)
            ),
            self._offered("llm.generation.engine", _release_held=release),
        ):
            self.assertEqual(engine._next_due(), 0)
            engine._schedule()
        self.assertEqual(woken[-1:], [EVERYTHING])
        self.assertEqual(self._process_queue(), 1)

    def test_usage_that_is_told_late_is_told_on(self):
        told = []
        hook = {"_after_late_usage": lambda _engine, claim: told.append(claim.token)}
        with self._offered("llm.generation.engine", **hook):
            claims = []
            for used in ({"prompt_tokens": 7}, None):
                job = self._create_job("queued")
                claims.append(self._claim(job))
                job.action_cancel()
                self._apply(claims[-1], state="failed", error_type="cancelled", usage=used)
        self.assertEqual(told, [claims[0].token])
