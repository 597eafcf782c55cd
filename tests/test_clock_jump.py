from datetime import timedelta

from odoo import fields
from odoo.tests import BaseCase

from ..runner.clock_watch import ClockWatch
from ..runner.limits import LIFE_LOCK
from .common import LlmGenerationCommon

HOUR = timedelta(hours=1)
LOGGER = "odoo.addons.llm_generate_job.models.llm_generation_life"


class TestClockWatch(BaseCase):
    def setUp(self):
        super().setUp()
        self.now = 0.0
        self.watch = ClockWatch(lambda: self.now)

    def test_the_first_look_finds_nothing(self):
        self.assertEqual(self.watch.look(1e9), 0.0)

    def test_a_clock_that_runs_as_time_does_was_not_set(self):
        self.watch.look(1e9)
        self.now += 5000
        self.assertEqual(self.watch.look(1e9 + 5020), 0.0)

    def test_a_clock_that_was_set_is_noticed_once(self):
        self.watch.look(1e9)
        self.now += 10
        self.assertEqual(self.watch.look(1e9 + 10 - 3600), -3600.0)
        self.now += 10
        self.assertEqual(self.watch.look(1e9 + 20 - 3600), 0.0)
        self.assertEqual(self.watch.look(1e9 + 20), 3600.0)


class TestClockJump(LlmGenerationCommon):
    """The database's clock is set: waits keep their length, nobody is taken for late or alive."""

    def setUp(self):
        super().setUp()
        self.time = 0.0
        self.watch = ClockWatch(lambda: self.time)
        self.life = self._engine("life")
        runner_id = self.life._register_runner("host:1", 4)
        self.runner = self.env["llm.generation.runner"].browse(runner_id)
        self.life._heartbeat(runner_id, self.watch)

    def _set_clock(self, shift):
        """Have the clock set by some time, as a runner notices it."""
        self.time -= shift.total_seconds()
        with self.assertLogs(LOGGER, "WARNING") as logs:
            self.assertTrue(self.life._heartbeat(self.runner.id, self.watch))
        self.assertIn("clock was set by", logs.output[0])
        self.env.invalidate_all()

    def _note(self, record, **values):
        """Write into a record what the ORM would not let one write, its dates among them."""
        self.env.flush_all()
        names = ", ".join(f"{name} = %s" for name in values)
        self.env.cr.execute(
            f"UPDATE {record._table} SET {names} WHERE id = %s", [*values.values(), record.id]
        )
        self.env.invalidate_all()

    def _left(self, moment):
        return (moment - fields.Datetime.now()).total_seconds()

    def _running(self):
        job = self._create_job("queued")
        self._engine("claim")._claim(1, self.runner.id, self.runner.name, self.queue.ids)
        self.assertEqual(job.state, "running")
        return job

    def test_without_a_jump_nothing_is_touched(self):
        job = self._running()
        started = fields.Datetime.now() - HOUR
        self._note(job, started_at=started)
        self.time += 5
        with self.assertNoLogs(LOGGER, "WARNING"):
            self.life._heartbeat(self.runner.id, self.watch)
        self.env.invalidate_all()
        self.assertEqual(job.started_at, started)

    def test_a_clock_set_forward_ends_no_job(self):
        job = self._running()
        self._note(job, started_at=fields.Datetime.now() - HOUR)
        self.queue.job_timeout = 600
        self._set_clock(HOUR)
        self.assertEqual(self._engine("upkeep")._fail_overdue(), 0)
        self.assertEqual(job.state, "running")

    def test_a_job_at_the_provider_is_asked_about_at_once(self):
        job = self._running()
        self._note(job, external_job_id="ext-1", next_poll_at=fields.Datetime.now() + HOUR)
        self._set_clock(-HOUR)
        self.assertEqual([c.job_id for c in self._engine("upkeep")._claim_polls(5)], job.ids)

    def test_a_retry_comes_after_its_wait(self):
        job = self._create_job("queued")
        job.action_fail("broken")
        then = fields.Datetime.now() + HOUR
        self._note(job, completed_at=then, retry_at=then + timedelta(seconds=90))
        self._set_clock(-HOUR)
        self.assertAlmostEqual(self._left(job.retry_at), 90, delta=20)

    def test_what_was_given_back_waits_no_longer_than_it_had_to(self):
        given_back = self._running()
        self._engine("verdict")._give_back(given_back, 90, error_type="overloaded")
        wished = self._create_job("queued")
        then = fields.Datetime.now() + HOUR
        attempt = given_back.attempt_ids
        for job in given_back + wished:
            at = then + timedelta(seconds=90)
            self._note(job, scheduled_at=at, is_delayed=True)
        self._note(attempt, ended_at=then)
        for shift in (-HOUR, HOUR):  # a second time, as another runner does: nothing is left
            self._set_clock(shift)
            self.assertAlmostEqual(self._left(given_back.scheduled_at), 90, delta=20)
            self.assertGreater(self._left(wished.scheduled_at), 3000)

    def test_a_pause_keeps_its_length(self):
        then = fields.Datetime.now() + HOUR
        self._note(self.queue, paused_until=then + timedelta(seconds=90), write_date=then)
        self._set_clock(-HOUR)
        self.assertAlmostEqual(self._left(self.queue.paused_until), 90, delta=20)
        self._set_clock(HOUR)  # another runner, or the clock again: nothing is left to be done
        self.assertAlmostEqual(self._left(self.queue.paused_until), 90, delta=20)

    def test_a_sign_of_life_from_the_future_is_none(self):
        job = self._running()
        self.runner.heartbeat_at = fields.Datetime.now() + HOUR
        with self.assertLogs(LOGGER, "WARNING"):
            self.assertEqual(self.life._rescue(0.0, LIFE_LOCK), 1)
        self.assertEqual(job.state, "queued")
