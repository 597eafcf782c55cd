from datetime import timedelta

import psycopg2
from freezegun import freeze_time

from odoo import fields
from odoo.tools import mute_logger

from ..const import ACTIVE_STATES, FINAL_STATES, STATES, TRANSITIONS
from .common import LlmGenerationCommon

STATE_NAMES = [state for state, _label in STATES]
#: action -> states that it may be asked in, and where it leads
ACTIONS = {
    "action_queue": (["draft"], "queued"),
    "action_start": (["queued"], "queued"),
    "action_complete": (["running"], "completed"),
    "action_fail": (["queued", "running"], "failed"),
    "action_retry": (["failed"], "queued"),
    "action_cancel": (["draft", "queued", "running"], "cancelled"),
}


class TestLlmGenerationState(LlmGenerationCommon):
    def test_who_chats_reads_nothing_of_a_connection(self):
        job = self._create_job("failed")
        for error_type, words, told in (
            (
                "unknown_outcome",
                "peer closed connection without sending complete message body",
                "Connection lost; result unknown.",
            ),
            ("transient", "[Errno 111] Connection refused", "Temporary failure."),
            ("transient", "The model is loaded just now.", "The model is loaded just now."),
        ):
            job.write({"error_type": error_type, "error_message": words})
            self.assertEqual(job.with_user(self.user).reason, told)

    def test_who_chats_reads_no_status_of_http(self):
        job = self._create_job("failed")
        job.write({"error_type": "bad_request", "error_message": "HTTP 400: No."})
        self.assertEqual(job.with_user(self.user).reason, "Request refused: No.")
        for model, kinds in (
            ("llm.generation.job", ("list", "form", "kanban")),
            ("llm.thread", ("form",)),
        ):
            for kind in kinds:
                with self.subTest(model, kind=kind):
                    arch = self.env[model].with_user(self.user).get_view(view_type=kind)["arch"]
                    self.assertNotIn("error_message", arch)
                    self.assertIn('name="reason"', arch)

    def test_the_table_is_that_of_the_contract(self):
        moves = {(source, target) for target in TRANSITIONS for source in TRANSITIONS[target]}
        self.assertEqual(
            moves,
            {
                ("draft", "queued"),
                ("queued", "running"),
                ("running", "completed"),
                ("queued", "failed"),
                ("running", "failed"),
                ("running", "queued"),
                ("failed", "queued"),
                ("draft", "cancelled"),
                ("queued", "cancelled"),
                ("running", "cancelled"),
            },
        )

    def test_set_state_follows_the_table(self):
        self.queue.max_concurrent_jobs = 100  # nobody says that the calls of these jobs ended
        for source in STATE_NAMES:
            for target, sources in TRANSITIONS.items():
                with self.subTest(source=source, target=target):
                    job = self._create_job(source)
                    moved = job._set_state(target)
                    self.assertEqual(bool(moved), source in sources)
                    self.assertEqual(job.state, target if moved else source)

    def test_an_action_moves_from_its_states_only(self):
        for action, (sources, target) in ACTIONS.items():
            for source in sources:
                with self.subTest(action=action, source=source):
                    job = self._create_job(source)
                    getattr(job, action)()
                    self.assertEqual(job.state, target)

    def test_an_action_that_is_not_legal_says_why_and_changes_nothing(self):
        for action, (sources, _target) in ACTIONS.items():
            for source in set(STATE_NAMES) - set(sources):
                with self.subTest(action=action, source=source):
                    job = self._create_job(source)
                    before = self._values(job)
                    sentence = self._refusal(getattr(job, action))
                    self.assertRegex(sentence, r"^[A-Z].+[.]$")
                    self.assertEqual(self._values(job), before)

    def test_an_action_on_many_moves_none_when_one_cannot_move(self):
        for action, (sources, _target) in ACTIONS.items():
            with self.subTest(action=action):
                wrong = self._create_job("completed")
                jobs = self._create_job(sources[0]) | wrong | self._create_job(sources[0])
                before = self._values(jobs)
                self._refusal(getattr(jobs, action))
                self.assertEqual(self._values(jobs), before)

    def test_an_action_on_many_moves_all(self):
        jobs = self._create_job("queued") | self._create_job("running") | self._create_job()
        jobs.action_cancel()
        self.assertEqual(jobs.mapped("state"), ["cancelled"] * 3)

    def test_a_job_tells_what_can_be_done_with_it(self):
        for state in STATE_NAMES:
            with self.subTest(state=state):
                job = self._create_job(state)
                self.assertEqual(job.is_active, state in ACTIVE_STATES)
                self.assertEqual(job.can_retry, state == "failed")
                self.assertEqual(job.can_cancel, state in {"draft", "queued", "running"})

    def test_no_retry_is_left_when_all_are_used(self):
        job = self._create_job("failed", max_retries=0)
        self.assertFalse(job.can_retry)
        self.assertIn("No retry is left", self._refusal(job.action_retry))
        self.assertIn("No retry is left", job.with_user(self.user).retry_refusal)
        self.assertTrue(job.with_user(self.manager).can_retry)
        job.max_retries = 1
        job.action_retry()
        self.assertEqual((job.state, job.retry_count, job.can_retry), ("queued", 1, False))

    def test_where_a_retry_cannot_help_it_says_what_to_change(self):
        job = self._create_job("failed")
        job.error_type = "content_refused"
        for user in (self.user, self.manager):
            one = job.with_user(user)
            self.assertFalse(one.can_retry)
            self.assertIn("Ask it in other words, or ask for less", one.retry_refusal)
            self.assertEqual(self._refusal(one.action_retry), one.retry_refusal)
        job.error_type = "bad_request"
        self.assertIn("have a manager look", job.with_user(self.user).retry_refusal)
        self.assertTrue(job.with_user(self.manager).can_retry)
        self.assertFalse(self._create_job("completed").retry_refusal)

    def test_an_automatic_retry_can_be_given_up(self):
        job = self._create_job("failed")
        self.assertIn("No automatic retry", self._refusal(job.action_stop_retrying))
        ended = []
        patched = self._offered(
            "llm.generation.job", _after_end=lambda jobs: ended.append(jobs.ids)
        )
        self.enterContext(patched)
        for stop in (
            lambda: job.with_user(self.user).action_stop_retrying(),
            lambda: job.thread_id.with_user(self.user).action_cancel_generation(),
        ):
            job.sudo().retry_at = fields.Datetime.now() + timedelta(seconds=40)
            self.assertRegex(
                job._status_sentence(), r"retried automatically at about .*\d:\d\d:\d\d.*It broke"
            )
            stop()
            self.assertEqual((job.state, job.retry_at), ("failed", False))
            self.assertEqual(ended.pop(), job.ids)
            seen = {}
            list(self._engine().with_context(generation_inline=False)._new_events(job, seen))
            self.assertTrue(seen["ended"])

    def test_queueing_says_since_when_the_job_waits(self):
        before = fields.Datetime.now()
        job = self._create_job("queued")
        self.assertGreaterEqual(job.queued_at, before)
        self.assertEqual((job.started_at, job.completed_at), (False, False))

    def test_starting_measures_the_wait(self):
        job = self._create_job("queued")
        job.queued_at -= timedelta(seconds=90)
        self._claim(job)
        self.assertAlmostEqual(job.queue_duration, 90, delta=20)
        self.assertAlmostEqual(
            (fields.Datetime.now() - job.started_at).total_seconds(), 0, delta=20
        )

    def test_ending_measures_the_run(self):
        for end in ("action_complete", "action_fail", "action_cancel"):
            with self.subTest(end=end):
                job = self._create_job("running")
                job.started_at -= timedelta(seconds=90)
                getattr(job, end)()
                self.assertAlmostEqual(job.duration, 90, delta=20)
                self.assertAlmostEqual(
                    (fields.Datetime.now() - job.completed_at).total_seconds(), 0, delta=20
                )

    def test_a_run_is_measured_in_fractions_of_a_second(self):
        job = self._create_job("running")
        job.started_at -= timedelta(milliseconds=700)
        job.action_complete()
        self.assertAlmostEqual(job.duration, (job.completed_at - job.started_at).total_seconds())
        self.assertLess(0.7, job.duration)
        self.assertLess(job.duration, 20)

    def test_all_dates_are_of_the_databases_clock_whatever_the_servers_says(self):
        before = self._engine()._now()
        with freeze_time("2031-05-06 07:08:09"):
            job = self._create_job("completed")
        after = self._engine()._now()
        dates = [before, job.queued_at, job.started_at, job.completed_at, after]
        self.assertEqual(dates, sorted(dates))
        waited = (job.started_at - job.queued_at).total_seconds()
        self.assertAlmostEqual(job.queue_duration, waited, delta=0.001)
        self.assertLess(job.queue_duration, 5)

    def test_jobs_that_are_queued_together_have_one_date(self):
        jobs = self.env["llm.generation.job"].union(*(self._create_job() for _job in range(3)))
        jobs.action_queue()
        self.assertEqual(len(set(jobs.mapped("queued_at"))), 1)

    def test_whether_a_job_waits_for_its_date_says_the_databases_clock(self):
        with freeze_time("2031-05-06 07:08:09"):
            later = self._create_job("queued", scheduled_at=self._engine()._now() + timedelta(1))
            self.assertTrue(later.is_scheduled)
            later.scheduled_at += timedelta(1)
            self.assertTrue(later.is_scheduled)
            later.scheduled_at -= timedelta(3)
            self.assertFalse(later.is_scheduled)

    def test_a_job_that_never_ran_took_no_time(self):
        job = self._create_job("queued")
        job.action_fail()
        self.assertEqual(job.duration, 0)

    def test_a_job_that_is_given_back_keeps_its_place(self):
        job = self._create_job("running")
        job.queued_at = queued_at = job.queued_at - timedelta(hours=1)
        job._set_state("queued")
        self.assertEqual((job.queued_at, job.started_at), (queued_at, False))

    def test_a_job_that_is_retried_waits_anew(self):
        job = self._create_job("failed")
        job.queued_at -= timedelta(hours=1)
        job.action_retry()
        self.assertLess((fields.Datetime.now() - job.queued_at).total_seconds(), 20)
        self.assertEqual((job.started_at, job.completed_at), (False, False))

    def test_completing_notes_the_answer_as_a_record_or_an_id(self):
        for convert in (lambda message: message, lambda message: message.id):
            job = self._create_job("running")
            message = job.thread_id.message_post(body="Hi", llm_role="assistant")
            job.action_complete(convert(message))
            self.assertEqual(job.output_message_id, message)
            self.assertEqual(job.progress, 100)

    def test_failing_notes_the_reason(self):
        job = self._create_job("running")
        job.action_fail("The cat is asleep.")
        self.assertEqual(job.error_message, "The cat is asleep.")
        job = self._create_job("running")
        job.action_fail()
        self.assertTrue(job.error_message)

    def test_the_database_knows_when_a_job_has_ended(self):
        for state in STATE_NAMES:
            with self.subTest(state=state):
                job = self._create_job(state)
                wrong = None if state in FINAL_STATES else fields.Datetime.now()
                with (
                    mute_logger("odoo.sql_db"),
                    self.assertRaises(psycopg2.errors.CheckViolation),
                ):
                    self.env.cr.execute(
                        "UPDATE llm_generation_job SET completed_at = %s WHERE id = %s",
                        [wrong, job.id],
                    )

    def test_each_try_is_kept_with_how_it_ended(self):
        job = self._create_job("running")
        job.action_fail("First.")
        job.action_retry()
        self._claim(job)
        job.action_complete()
        self.assertRecordValues(
            job.attempt_ids.sorted("number"),
            [
                {"number": 1, "outcome": "failed", "error_message": "First."},
                {"number": 2, "outcome": "completed", "error_message": False},
            ],
        )
        self.assertTrue(all(job.attempt_ids.mapped("ended_at")))
