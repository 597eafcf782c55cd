import threading
import time
from unittest.mock import Mock, patch

from odoo.tests import BaseCase, tagged
from odoo.tools import mute_logger

from ..engine.claim import LOOK_AGAIN
from ..protocol.answer import Answer
from ..runner.cursor import Gate
from ..runner.executor import Executions
from .test_concurrency import ConcurrencyCase

#: Far more than the engine waits for a row, far less than a row stays locked.
SOON = 10
LIMITED = Answer("failed", error_type="rate_limited", retry_after=3)


class TestLockedRows(ConcurrencyCase):
    """What is locked by somebody is set aside; all else goes on."""

    def _claims(self, count):
        with self._env() as env:
            jobs = env["llm.generation.job"].create([
                {"thread_id": self.thread_id, "generation_inputs": {"prompt": str(number)}}
                for number in range(count)
            ])
            jobs.action_queue()
            self.queue_id = env["llm.generation.queue"]._get_or_create_queue(self.provider_id).id
        with self._env() as env:
            engine = env["llm.generation.engine"]
            claims = engine._claim(count, queue_ids=[self.queue_id])[0]
        self.job_ids = [claim.job_id for claim in claims]
        return claims

    def _store(self, pairs, **options):
        with self._env() as env:
            began = time.monotonic()
            held = env["llm.generation.engine"]._complete_batch(pairs, **options)
            self.assertLess(time.monotonic() - began, SOON)
            return held

    def _states(self):
        with self._env() as env:
            return env["llm.generation.job"].browse(self.job_ids).mapped("state")

    def _hold(self, env, table, record_id):
        env.cr.execute(f"SELECT FROM {table} WHERE id = %s FOR UPDATE", [record_id])

    def test_an_answer_that_meets_the_queues_row_is_set_aside(self):
        first, second = self._claims(2)
        pairs = [(first, LIMITED), (second, Answer("completed"))]
        with self._env() as holder:
            self._hold(holder, "llm_generation_queue", self.queue_id)
            held = self._store(pairs)
            self.assertEqual(held, pairs[:1])
            self.assertEqual(self._states(), ["running", "completed"])
        self.assertEqual(self._store(held), [])
        self.assertEqual(self._states(), ["queued", "completed"])

    def test_that_a_provider_works_again_waits_for_nobody(self):
        [claim] = self._claims(1)
        with self._env() as env:
            env["llm.generation.queue"].browse(self.queue_id).refused_by = "quota"
        with self._env() as holder:
            self._hold(holder, "llm_generation_queue", self.queue_id)
            self.assertEqual(self._store([(claim, Answer("completed"))]), [])

    def test_an_answer_whose_hook_meets_a_row_is_set_aside_unless_nobody_tries_again(self):
        [claim] = self._claims(1)
        with self._env() as env:
            partner = env["res.partner"].create({"name": "Locked"})
        partner_id = partner.id

        def hook(thread, _job):
            thread.sudo().env["res.partner"].browse(partner_id).name = "Told"
            thread.env.flush_all()

        thread_class = type(env["llm.thread"])
        pairs = [(claim, Answer("completed", pause=3))]
        with patch.object(thread_class, "_on_generation_job_done", hook), self._env() as holder:
            self._hold(holder, "res_partner", partner_id)
            unhurried = [(claim, Answer("completed"))]
            self.assertEqual(self._store(unhurried), unhurried)
            self._hold(holder, "llm_generation_queue", self.queue_id)
            with self.assertLogs("odoo.addons.llm_generate_job.engine.engine", "ERROR"):
                self.assertEqual(self._store(pairs, is_last=True), [])
        self.assertEqual(self._states(), ["completed"])
        with self._env() as env:
            env["res.partner"].browse(partner_id).unlink()

    def test_a_claim_waits_for_no_bucket(self):
        self._claims(1)
        with self._env() as env:
            env["llm.generation.job"].create({"thread_id": self.thread_id}).action_queue()
        with self._env() as holder, self._env() as env:
            holder.cr.execute(
                "SELECT FROM llm_generation_bucket WHERE queue_id = %s FOR UPDATE", [self.queue_id]
            )
            began = time.monotonic()
            claimed = env["llm.generation.engine"]._claim(1, queue_ids=[self.queue_id])
            self.assertEqual(claimed, ([], {self.queue_id: LOOK_AGAIN}))
            self.assertLess(time.monotonic() - began, SOON)

    def test_maintenance_leaves_what_is_locked_for_the_next_time(self):
        claims = self._claims(2)
        with self._env() as env:
            jobs = env["llm.generation.job"].browse(self.job_ids)
            jobs.write({"started_at": "2020-01-01", "max_retries": 0})
            partner_id = env["res.partner"].create({"name": "Locked"}).id

        def hook(thread, job):
            if job.id == claims[0].job_id:
                thread.sudo().env["res.partner"].browse(partner_id).name = "Told"
                thread.env.flush_all()

        with patch.object(type(env["llm.thread"]), "_on_generation_job_done", hook):
            with self._env() as holder, self._env() as env:
                self._hold(holder, "res_partner", partner_id)
                env["llm.generation.engine"]._fail_overdue()
                self.assertEqual(self._states(), ["running", "failed"])
            with self._env() as env:
                env["llm.generation.engine"]._fail_overdue()
        self.assertEqual(self._states(), ["failed", "failed"])
        with self._env() as env:
            env["res.partner"].browse(partner_id).unlink()

    def test_a_webhook_of_a_job_that_is_locked_is_to_come_again(self):
        [claim] = self._claims(1)
        with self._env() as env:
            token = env["llm.generation.job"].browse(claim.job_id).sudo().webhook_token
            provider_class = type(env["llm.provider"])
        genuine = patch.object(
            provider_class, "_verify_generation_webhook", return_value=Mock(external_id="")
        )
        with genuine, self._env() as holder, self._env() as env:
            receive = env["llm.generation.engine"]._receive
            self._hold(holder, "llm_generation_job", claim.job_id)
            began = time.monotonic()
            self.assertEqual(receive(claim.job_id, token, {}, b""), 503)
            self.assertLess(time.monotonic() - began, SOON)
            holder.cr.rollback()
            self.assertEqual(receive(claim.job_id, token, {}, b""), 200)

    def test_a_process_that_leaves_waits_for_no_job(self):
        claims = self._claims(2)
        with self._env() as holder, self._env() as env:
            self._hold(holder, "llm_generation_job", claims[0].job_id)
            env["llm.generation.engine"]._snooze_claims(claims)
            self.assertEqual(self._states(), ["running", "queued"])

    def test_a_frozen_process_keeps_its_rows_for_a_minute(self):
        with self._env() as env, env["llm.generation.engine"]._transaction() as engine:
            [(timeout,)] = engine._select("SHOW idle_in_transaction_session_timeout")
        self.assertEqual(timeout, "1min")
        with self._env() as env:  # the connection's next user has none
            env.cr.execute("SHOW idle_in_transaction_session_timeout")
            self.assertEqual(env.cr.fetchone(), ("0",))


@tagged("post_install", "-at_install")
class TestLanes(BaseCase):
    def test_the_answers_of_a_provider_wait_for_no_other(self):
        executions = Executions(Mock(), "test", lambda: None)
        self.addCleanup(executions.stop)
        stuck, stored = threading.Event(), threading.Event()
        self.addCleanup(stuck.set)

        def store(pairs, _is_last):
            [(claim, _answer)] = pairs
            stuck.wait(SOON) if claim == "stuck" else stored.set()

        with patch.object(executions, "_finish", store):
            executions._completer(1).put("stuck", "answer")
            executions._completer(2).put("free", "answer")
            self.assertTrue(stored.wait(SOON / 2))

    def test_who_is_through_the_gate_for_long_is_not_waited_for(self):
        gate = Gate(2)
        gate.PATIENCE = 0.05
        entered = [gate.enter() for _time in range(2)]
        began = time.monotonic()
        entered += [gate.enter() for _time in range(2)]
        self.assertGreater(time.monotonic() - began, 0.04)
        for each in entered:
            gate.leave(each)
        self.assertEqual(gate._through, [])

    @mute_logger("odoo.addons.llm_generate_job.runner.executor")
    def test_each_try_after_the_grace_is_the_last(self):
        executions, tries = Executions(Mock(), "test", lambda: None), []
        self.addCleanup(executions.stop)
        stored = threading.Event()

        def store(pairs, is_last):
            tries.append(is_last)
            if is_last:
                stored.set()
            return [] if is_last else pairs

        with patch.object(executions, "_finish", store):
            executions._completer(1).put("claim", "answer")
            time.sleep(0.1)
            executions.hurry(time.monotonic() + 0.1)
            self.assertTrue(stored.wait(SOON))
        self.assertGreater(tries.count(False), 0)
