from datetime import timedelta

from odoo import fields
from odoo.exceptions import UserError

from ..exceptions import AuthenticationError, OverloadedError, RateLimitedError
from .common import LlmGenerationCommon


class TestReason(LlmGenerationCommon):
    """Why a job waits: one method says it, and every page shows that."""

    def setUp(self):
        super().setUp()
        self.user.tz = self.manager.tz = "UTC"

    def _why(self, job):
        """Return the sentence, which chat, form, list and stream have in common."""
        job.env.flush_all()
        job.env.invalidate_all()
        job = job.with_user(self.user)
        reason = job.reason
        self.assertEqual(job._status_sentence(), reason)
        self.assertEqual(job.search_read([("id", "=", job.id)], ["reason"])[0]["reason"], reason)
        [told] = self._engine()._state_events(job.sudo(), {})
        self.assertEqual(told["message"], reason)
        return reason

    def _in(self, **delta):
        return fields.Datetime.now() + timedelta(**delta)

    def _at(self, moment):
        return self._engine().with_user(self.user)._clock_time(moment)

    def _runs(self, job):
        job.env.flush_all()
        return bool(self._engine()._claim(1, queue_ids=self.queue.ids)[0])

    def test_in_a_queue_that_moves_it_is_the_position(self):
        self._create_job("queued")
        job = self._create_job("queued")
        self.assertEqual(self._why(job), "Waiting, position 2 in the queue.")

    def test_what_holds_the_whole_queue_comes_first(self):
        later = self._create_job("queued", scheduled_at=self._in(hours=1))
        job = self._create_job("queued")
        pause = self._in(minutes=5)
        for sentence, values in {
            "Paused by an administrator.": {"enabled": False},
            "The provider rejects the API key; managers know.": {"refused_by": "authentication"},
            "The account at the provider has no credit left; managers know.": {
                "refused_by": "quota"
            },
            f"The provider asked for a pause; goes on at about {self._at(pause)}.": {
                "paused_until": pause
            },
        }.items():
            with self.subTest(sentence):
                before = {name: self.queue[name] for name in values}
                self.queue.write({**values})
                self.assertEqual(self._why(job), sentence)
                self.assertEqual(self._why(later), sentence)
                self.queue.write(before)
        self.assertIn("position 1", self._why(job))

    def test_an_archived_provider_starts_nothing(self):
        job = self._create_job("queued")
        self.native.active = False
        self.assertIn("archived", self._why(job))
        self.assertFalse(self._runs(job))

    def test_what_the_provider_said_is_why(self):
        job = self._create_job("queued")
        for error, sentence in (
            (RateLimitedError("Slowly.", retry_after=600), "asked for a pause; goes on at about"),
            (AuthenticationError("Wrong key."), "rejects the API key"),
        ):
            self.service.answers["create"] = [error]
            self._process_queue()
            self.assertEqual(job.state, "queued")
            self.assertIn(sentence, self._why(job))
            self.queue.paused_until = False
            job.sudo().write({"is_scheduled": False, "scheduled_at": False})

    def test_a_pause_of_another_day_has_its_date(self):
        job = self._create_job("queued")
        self.queue.paused_until = fields.Datetime.to_datetime("2099-05-06 07:08:00")
        self.assertRegex(self._why(job), r"about .*2099.*\b0?7:08")

    def test_the_time_is_that_of_who_asked(self):
        job = self._create_job("queued")
        self.queue.paused_until = fields.Datetime.to_datetime("2099-05-06 07:08:00")
        self.user.tz = "Asia/Tokyo"
        job = job.with_context(tz=False).sudo()
        self.assertRegex(job._status_sentence(), r"\b(16|0?4):08")
        self.assertRegex(job.with_context(tz="UTC")._status_sentence(), r"\b0?7:08")

    def test_earlier_questions_of_the_thread_are_before_it(self):
        thread = self._create_thread()
        first, second, third = (thread.enqueue_generation(text) for text in ("One", "Two", "Three"))
        self.assertIn("position 1", self._why(first))
        self.assertEqual(self._why(second), "Another job of this thread is before it.")
        self.assertEqual(self._why(third), "2 jobs of this thread are before it.")

    def test_an_answer_that_is_being_written_is_waited_for(self):
        job = self._create_job("queued", scheduled_at=self._in(hours=1))
        job.error_type = "busy"
        self.assertEqual(self._why(job), "Another answer is being written in this thread.")

    def test_a_model_may_pause_alone(self):
        job = self._create_job("queued")
        until = self._in(minutes=7)
        pause = self.env["llm.generation.model.pause"].create({
            "queue_id": self.queue.id,
            "model_id": self.native_model.id,
            "paused_until": until,
        })
        self.assertEqual(
            self._why(job),
            "The provider asked for a pause of the model Native model; goes on at about"
            f" {self._at(until)}.",
        )
        pause.refused_by = "authentication"
        self.assertIn("refuses the model Native model; managers know", self._why(job))
        self.assertFalse(self._runs(job))
        pause.paused_until = self._in(minutes=-1)
        self.assertIn("position 1", self._why(job))

    def test_a_full_limit_is_named(self):
        self.queue.max_concurrent_jobs = 1
        self._create_job("running")
        job = self._create_job("queued")
        self.assertEqual(
            self._why(job),
            "Waiting, position 1 in the queue: all slots of the provider are busy (1).",
        )
        self.queue.max_concurrent_jobs = 3
        limit = self.queue.model_limit_ids.create({
            "queue_id": self.queue.id,
            "model_id": self.native_model.id,
        })
        self.assertIn("all slots of the model are busy (1)", self._why(job))
        self.assertFalse(self._runs(job))
        limit.max_concurrent_jobs = 2
        self.assertEqual(self._why(job), "Waiting, position 1 in the queue.")

    def test_a_used_up_allowance_is_named(self):
        self._create_job("running")
        job = self._create_job("queued")
        bucket = self.env["llm.generation.bucket"].search([("queue_id", "=", self.queue.id)])
        for limit, level in (("requests", "request_level"), ("tokens", "token_level")):
            with self.subTest(limit):
                self.queue[f"{limit}_per_minute"] = 1
                bucket.write({level: -10, "filled_at": fields.Datetime.now()})
                self.assertIn("allowance of this minute is used up", self._why(job))
                self.assertFalse(self._runs(job))
                self.queue[f"{limit}_per_minute"] = 0
        self.assertIn("queue.", self._why(job))

    def test_a_server_that_is_missing_is_named(self):
        job = self._create_job("queued")
        self.env["llm.generation.runner"].sudo().search([]).unlink()
        self.assertIn("position 1", self._why(job))
        job.queued_at -= timedelta(minutes=3)
        self.assertEqual(self._why(job), "No server runs jobs; an administrator has to start one.")

    def test_the_next_try_of_a_job_that_was_given_back_has_its_time(self):
        job = self._create_job("queued")
        self.service.answers["create"] = [OverloadedError("Not now.")]
        self._process_queue()
        self.assertEqual((job.state, job.is_scheduled), ("queued", True))
        self.assertRegex(
            self._why(job),
            r"^The last try did not succeed \(Provider overloaded\); the next is at about .+\.$",
        )

    def test_a_failed_job_says_why_and_others_nothing(self):
        self.assertEqual(self._create_job("failed").reason, "It broke.")
        for state in ("draft", "running", "completed", "cancelled"):
            self.assertFalse(self._create_job(state).reason)
        draft = self.env["llm.generation.job"].new({"thread_id": self._create_thread().id})
        self.assertFalse(draft.reason)

    def test_many_jobs_cost_one_statement(self):
        jobs = self.env["llm.generation.job"].concat(
            *(self._create_job("queued") for _number in range(6))
        )

        def statements(some):
            with self._knowing_nothing():
                some.mapped("queue_position")
                some.model_id.sudo().mapped("name")
                before = self.env.cr.sql_log_count
                some.mapped("reason")
                return self.env.cr.sql_log_count - before

        statements(jobs)
        self.assertEqual(statements(jobs), statements(jobs[:1]))

    # === START NOW === #

    def _started(self, job):
        action = job.with_user(self.user).action_start()
        return action is True or action["params"]["message"]

    def test_start_now_says_why_nothing_can_start(self):
        job = self._create_job("queued", scheduled_at=self._in(hours=1))
        self.queue.enabled = False
        self.assertEqual(self._started(job), "It cannot start yet. Paused by an administrator.")
        self.assertFalse(job.scheduled_at)
        self.queue.enabled = True
        self.assertIs(self._started(job), True)
        self.queue.max_concurrent_jobs = 1
        self._create_job("running")
        self.assertIn("all slots of the provider are busy", self._started(job))

    def test_start_now_is_for_what_waits(self):
        with self.assertRaises(UserError):
            self._create_job("completed").action_start()
