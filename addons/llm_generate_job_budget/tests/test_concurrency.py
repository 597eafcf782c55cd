import contextlib
import threading
import time
from unittest.mock import patch

from odoo.exceptions import UserError

from odoo.addons.llm_generate_job.tests.test_concurrency import LIMIT, THREADS, ConcurrencyCase

from .. import statements as sql


class TestConcurrency(ConcurrencyCase):
    def test_many_who_queue_at_once_keep_the_budget(self):
        self.addCleanup(self._set_budget, 0)
        self._set_budget(LIMIT)
        with self._env() as env:
            ids = env["llm.generation.job"].create([{"thread_id": self.thread_id}] * THREADS).ids

        def queue(env):  # each has a snapshot older than what the others reserve
            try:
                env["llm.generation.job"].browse(ids.pop()).action_queue()
            except UserError:
                return False
            return True

        queued = self._at_once(queue)
        self.assertEqual(queued.count(True), LIMIT)
        self.assertEqual(self._waiting(), LIMIT)

    def test_many_who_ask_directly_at_once_keep_the_budget(self):
        self.addCleanup(self._set_budget, 0)
        self._set_budget(LIMIT)
        asking = threading.Barrier(THREADS)
        with self._env() as env:
            engine = type(env["llm.generation.engine"])
        spent = engine._spent

        def spent_a_while_ago(self, subjects):
            found = spent(self, subjects)
            time.sleep(0.1)  # others look meanwhile, if they may
            return found

        self.enterContext(patch.object(engine, "_spent", spent_a_while_ago))

        def ask(env):
            with contextlib.ExitStack() as stack:
                try:
                    provider = env["llm.provider"].browse(self.provider_id)
                    stack.enter_context(provider._direct_answer(estimate=1)).has_asked = True
                except UserError:
                    return False
                finally:
                    asking.wait(30)  # all of them, before the first has its answer
                return True

        self.assertEqual(self._at_once(ask).count(True), LIMIT)

    def test_who_asks_directly_does_not_wait_for_ever_for_who_reserves(self):
        self.addCleanup(self._set_budget, 0)
        self._set_budget(LIMIT)
        with self._env() as env, self._env() as other:
            job = env["llm.generation.job"].create({"thread_id": self.thread_id})
            job.action_queue()
            provider = other["llm.provider"].browse(self.provider_id)
            begin = time.monotonic()
            with (
                patch.object(sql, "LOCK_PATIENCE", "SET LOCAL lock_timeout = '200ms'"),
                self.assertRaisesRegex(UserError, "Try again in a moment"),
                provider._direct_answer(estimate=1),
            ):
                self.fail("It was allowed.")
            self.assertLess(time.monotonic() - begin, 15)

    def test_who_queues_does_not_wait_for_ever_for_who_reserves(self):
        self.addCleanup(self._set_budget, 0)
        self._set_budget(LIMIT)
        with self._env() as env, self._env() as other:
            env["llm.generation.job"].create({"thread_id": self.thread_id}).action_queue()
            job = other["llm.generation.job"].create({"thread_id": self.thread_id})
            other.flush_all()
            other.cr.execute("SET LOCAL statement_timeout = '20s'")
            begin = time.monotonic()
            with (
                patch.object(sql, "BOUND_WAIT", "SET LOCAL lock_timeout = '200ms'"),
                self.assertRaisesRegex(UserError, "Try again in a moment"),
            ):
                job.action_queue()
            self.assertLess(time.monotonic() - begin, 15)
            self.assertEqual(job.state, "draft")  # the transaction goes on

    def test_what_is_booked_anew_counts_once_though_others_see_it_as_it_was(self):
        self.addCleanup(self._set_budget, 0)
        self._set_budget(LIMIT)
        with self._env() as env:
            env["llm.generation.job"].create({"thread_id": self.thread_id}).action_queue()
        with self._env() as env:
            engine, subject = env["llm.generation.engine"], ("company", env.company.id)
            env.cr.execute(
                "UPDATE llm_generation_spending SET xid = txid_current()::text"
                " WHERE is_open RETURNING id"
            )
            engine._rebooked.update(row[0] for row in env.cr.fetchall())
            env.cr.precommit.add(lambda: None)
            with env.cr.savepoint():
                self.assertEqual(engine._spent_by_all([subject])[subject].jobs, 1)
        with self._env() as env:
            self.assertFalse(env["llm.generation.engine"]._rebooked, "of another transaction")

    def _set_budget(self, jobs):
        with self._env() as env:
            env.company.llm_daily_jobs = jobs
            env.flush_all()
            env["llm.generation.spending"].search([]).unlink()

    def _waiting(self):
        with self._env() as env:
            domain = [("provider_id", "=", self.provider_id), ("state", "=", "queued")]
            return env["llm.generation.job"].search_count(domain)
