import threading
import time
from contextlib import ExitStack
from importlib.util import find_spec
from unittest.mock import patch

import psycopg2
from psycopg2.extensions import ISOLATION_LEVEL_READ_COMMITTED

from odoo import SUPERUSER_ID, api
from odoo.exceptions import UserError
from odoo.modules.registry import DummyRLock, Registry
from odoo.tests import BaseCase, get_db_name, tagged

from ..engine import engine as engine_module
from ..engine import maintain
from ..engine.claim import LOOK_AGAIN
from ..protocol.answer import Answer
from ..runner import cursor, executor
from ..runner.cursor import GATE
from ..runner.executor import EnvironmentFactory

#: Connections that a plain answer takes one after the other: for its question, its first words, its
#: end, which is read and then written by other bounds, and what is read anew after that. A claim
#: and a completer take one each, for many jobs.
OPENS = 5
THREADS = 6
LIMIT = 3
JOBS = 30


@tagged("post_install", "-at_install")
class ConcurrencyCase(BaseCase):
    """Real threads on real connections: what they make is committed, and removed in the end."""

    def setUp(self):
        super().setUp()
        self.registry = Registry(get_db_name())
        # The thread that loads the registry holds its lock during the tests.
        self.enterContext(patch.object(Registry, "_lock", DummyRLock()))
        with self._env() as env:
            self._fixture(env)
        self.addCleanup(self._remove)

    def _env(self):
        """Return a context that yields an environment of its own, and commits."""
        return Transaction(self.registry)

    def _fixture(self, env):
        provider = env["llm.provider"].create({"name": "Contended", "service": self._service(env)})
        model = env["llm.model"].create({
            "name": "contended",
            "provider_id": provider.id,
            "model_use": "chat",
        })
        thread = env["llm.thread"].create({
            "name": "Contended",
            "provider_id": provider.id,
            "model_id": model.id,
        })
        self.provider_id, self.model_id, self.thread_id = provider.id, model.id, thread.id

    def _service(self, env):
        services = [("contended", "Contended")]
        methods = {
            "_get_available_services": lambda _self: services,
            # The family's chat asks each service for it.
            "contended_normalize_prepend_messages": lambda _self, messages: messages or [],
        }
        for name, method in methods.items():
            double = patch.object(type(env["llm.provider"]), name, method, create=True)
            self.enterContext(double)
        return "contended"

    def _remove(self):
        with self._env() as env:
            env["llm.generation.job"].search([("provider_id", "=", self.provider_id)]).write({
                "state": "cancelled",
                "completed_at": "2026-01-01 00:00:00",
            })
            env["llm.thread"].browse(self.thread_id).unlink()
            env["llm.model"].browse(self.model_id).unlink()
            env["llm.provider"].browse(self.provider_id).unlink()

    def _at_once(self, function):
        """Call `function(env)` in many threads at the same time; return what they return."""
        barrier, results, errors = threading.Barrier(THREADS), [], []

        def work():
            try:
                with self._env() as env:
                    env["res.users"].search_count([])  # takes the snapshot before the others act
                    barrier.wait(30)
                    results.append(function(env))
            except Exception as error:  # noqa: BLE001 told to the test
                errors.append(error)

        threads = [threading.Thread(target=work) for _thread in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        self.assertEqual(errors, [])
        self.assertEqual(len(results), THREADS)
        return results


class TestConcurrency(ConcurrencyCase):
    def test_a_queue_is_made_once_by_many_at_its_first_use(self):
        with self._env() as env:
            env.cr.execute(
                "DELETE FROM llm_generation_queue WHERE provider_id = %s", [self.provider_id]
            )

        def first_use(env):
            queue = env["llm.generation.queue"]._get_or_create_queue(self.provider_id)
            self.assertEqual((queue.max_concurrent_jobs, queue.enabled), (5, True))
            return queue.id

        made = self._at_once(first_use)
        self.assertEqual(len(set(made)), 1, made)
        with self._env() as env:
            queues = env["llm.generation.queue"].search([("provider_id", "=", self.provider_id)])
            self.assertEqual(queues.ids, made[:1])

    def test_who_makes_a_queue_waits_for_nobody_without_an_end(self):
        with self._env() as other, self._env() as env:
            lock = "SELECT pg_advisory_xact_lock(hashtext('llm_generation_queue'), %s)"
            other.cr.execute(lock, [self.provider_id])
            release = threading.Timer(10, other.cr.rollback)
            release.start()
            engine = env["llm.generation.engine"]
            with (
                patch.object(engine_module, "LONG_LOCK_TIMEOUT", 50),
                self.assertRaises(psycopg2.errors.LockNotAvailable),
            ):
                engine._create_queue(self.provider_id)
            release.cancel()
            other.cr.rollback()
            self.assertTrue(engine._create_queue(self.provider_id))

    def _queue_jobs(self, count):
        """Queue jobs; return the ids of their queue and of them, as they will be claimed."""
        with self._env() as env:
            queue = env["llm.generation.queue"]._get_or_create_queue(self.provider_id)
            queue.max_concurrent_jobs = LIMIT
            jobs = env["llm.generation.job"].create([
                {"thread_id": self.thread_id, "generation_inputs": {"prompt": str(number)}}
                for number in range(count)
            ])
            jobs.action_queue()
            return queue.id, jobs.sorted("fair_rank").ids

    def _claim_impatiently(self, queue_id):
        """Claim a job of a queue, and fail instead of waiting for a lock."""
        with self._env() as env:
            env.cr.connection.set_isolation_level(ISOLATION_LEVEL_READ_COMMITTED)
            env.cr.execute("SET LOCAL lock_timeout = '1s'")
            return env["llm.generation.engine"]._claim_from(queue_id, 1, None, "impatient")

    def test_a_claim_counts_what_others_have_committed_meanwhile(self):
        queue_id, _jobs = self._queue_jobs(2 * LIMIT)
        with self._env() as env, env["llm.generation.engine"]._transaction() as claim:
            claim._select("SELECT 1")  # here an ordinary cursor would take its snapshot
            with self._env() as other:
                taken, _wait = other["llm.generation.engine"]._claim(LIMIT, queue_ids=[queue_id])
            late, _wait = claim._claim_from(queue_id, 1, None, "late")
        self.assertEqual((len(taken), late), (LIMIT, []))

    def test_a_claim_waits_for_nobody_who_holds_the_queue(self):
        queue_id, _jobs = self._queue_jobs(1)
        with self._env() as env:
            env["llm.generation.queue"].browse(queue_id).lock_for_update()
            claims, wait = self._claim_impatiently(queue_id)
        self.assertEqual((claims, wait), ([], LOOK_AGAIN))

    def test_a_claim_passes_a_job_that_somebody_holds(self):
        queue_id, (first, second) = self._queue_jobs(2)
        with self._env() as env:
            env["llm.generation.job"].browse(first).lock_for_update()
            claims, _wait = self._claim_impatiently(queue_id)
        self.assertEqual([claim.job_id for claim in claims], [second])

    def test_many_claimers_keep_the_limit_and_claim_nothing_twice(self):
        queue_id, _jobs = self._queue_jobs(JOBS)
        claimed, most = [], []

        def claim_until_empty(env):
            while True:
                claims, _wait = env["llm.generation.engine"]._claim(2, queue_ids=[queue_id])
                most.append(self._running())
                for claim in claims:
                    claimed.append(claim.job_id)
                    env["llm.generation.engine"]._complete_batch([(claim, Answer("completed"))])
                if not claims and not self._waiting():
                    return True

        self._at_once(claim_until_empty)
        self.assertEqual(sorted(claimed), sorted(set(claimed)))
        self.assertEqual(len(claimed), JOBS)
        self.assertLessEqual(max(most), LIMIT)

    def test_a_long_transaction_sees_the_end_of_its_job(self):
        with self._env() as env:
            job = env["llm.generation.job"].create({
                "thread_id": self.thread_id,
                "generation_inputs": {"prompt": "Hi"},
            })
            job.action_queue()
            self.assertRaisesRegex(UserError, "Commit first", job.check_status)
            env.cr.commit()
            self.assertEqual(job.state, "queued")  # takes the snapshot

            with self._env() as other:
                claims, _wait = other["llm.generation.engine"]._claim(1)
                answer = Answer("completed", usage={"prompt_tokens": 3})
                other["llm.generation.engine"]._complete_batch([(claims[0], answer)])

            job.invalidate_recordset()
            self.assertEqual(job.state, "queued")  # what the snapshot still shows
            self.assertIs(job.check_status(), False)
            self.assertEqual((job.state, job.prompt_tokens, job.is_active), ("completed", 3, False))

    def test_a_long_transaction_reads_the_answer_of_its_job(self):
        with self._env() as env:
            job = env["llm.generation.job"].create({
                "thread_id": self.thread_id,
                "generation_inputs": {"prompt": "Hi"},
            })
            job.action_queue()
            env.cr.commit()
            self.assertEqual(job.state, "queued")  # takes the snapshot
            with self._env() as other:
                other["llm.generation.engine"]._claim(1)

            for body in ("<p>Hel</p>", "<p>Hello</p>"):
                with self._env() as other:
                    self._answer_half(other, job, body)
                job.check_status()
                self.assertEqual(job.output_message_id.body, body)
            self.assertEqual(job.output_message_id.llm_role, "assistant")
            self.assertEqual(job.output_message_id.attachment_ids.mapped("raw"), [b"painted"])
            self.assertEqual(
                job.output_message_id.to_store_format()["id"], job.output_message_id.id
            )

    def _answer_half(self, env, job, body):
        """Post a message with a file as the answer of a job, or go on with it."""
        job = job.with_env(env)
        if not job.output_message_id:
            job.output_message_id = job.thread_id.message_post(llm_role="assistant", body="…")
            job.output_message_id.attachment_ids = env["ir.attachment"].create({
                "name": "picture.txt",
                "raw": b"painted",
                "res_model": "llm.thread",
                "res_id": job.thread_id.id,
            })
        job.output_message_id.body = body

    def test_a_job_that_somebody_holds_does_not_end_the_clean_up(self):
        _queue_id, ids = self._queue_jobs(5)
        with self._env() as env:
            jobs = env["llm.generation.job"].browse(ids)
            jobs.action_cancel()
            jobs.completed_at = "2020-01-01 00:00:00"
        self.enterContext(patch.object(maintain, "CLEAN_UP_BATCH", 2))
        with self._env() as holder, self._env() as env:
            holder["llm.generation.job"].browse(ids[0]).lock_for_update()
            removed, is_more = env["llm.generation.engine"]._clean_up(days=1000)
        self.assertEqual((removed, is_more), (4, False))
        with self._env() as env:
            self.assertEqual(env["llm.generation.job"].browse(ids).exists().ids, ids[:1])

    def test_a_job_is_asked_about_once_in_a_while_whoever_asks(self):
        asked = []

        def answer(_provider, job):
            asked.append(job.id)
            time.sleep(0.5)
            return {"state": "running", "progress": 40}

        with self._env() as env:
            job = env["llm.generation.job"].create({
                "thread_id": self.thread_id,
                "generation_inputs": {"prompt": "Hi"},
            })
            job.action_queue()
        with self._env() as env:
            claims, _wait = env["llm.generation.engine"]._claim(1)
            submitted = Answer("running", external_job_id="ext-1")
            env["llm.generation.engine"]._complete_batch([(claims[0], submitted)])
            name = "contended_check_generation_job_status"
            self.enterContext(patch.object(type(env["llm.provider"]), name, answer, create=True))

        def ask(env):
            return env["llm.generation.job"].browse(job.id).check_status()

        answers = self._at_once(ask)
        self.assertEqual({one["state"] for one in answers}, {"running"})
        with self._env() as env:
            self.assertEqual(ask(env), {"state": "running", "progress": 40})
        self.assertEqual(asked, [job.id])
        with self._env() as env:
            env["llm.generation.job"].browse(job.id).hinted_at = "2026-01-01 00:00:00"
        # A pause that is over lets one of them ask, and a slow answer none of the others.
        with patch.object(maintain, "CHECK_PAUSE", -5.0):
            self._at_once(ask)
        self.assertEqual(asked, [job.id] * 2)

    def test_an_answer_takes_few_connections_and_holds_none_while_it_waits(self):
        held, opened = self._answered("An", " oak", " table.")
        self.assertEqual(held, [(None, False, 0)] * 3)
        self.assertLessEqual(len(opened), OPENS)

    def _answered(self, *words):
        """Have a job answered in these words, which come at once.

        :return: what was held before each: `(cursor, whether a transaction is open, places of the
            gate taken)`; and a list as long as connections were taken
        """
        held, opened, open_one = [], [], cursor.LazyCursor._open

        def chat(provider, _messages, **_kwargs):
            for word in words:
                cr = provider.env.cr
                held.append((cr._cursor, cr.in_transaction, len(GATE._through)))
                yield {"content": word}

        def spy(lazy):
            opened.append(lazy)
            return open_one(lazy)

        with patch.object(cursor.LazyCursor, "_open", spy):
            job_id = self._run_one(chat)
        with self._env() as env:
            job = env["llm.generation.job"].browse(job_id)
            self.assertEqual((job.state, job.output_text), ("completed", "".join(words).strip()))
        return held, opened

    def _run_one(self, chat):
        """Run a job whose provider answers by this method; return its id."""
        queue_id, [job_id] = self._queue_jobs(1)
        with self._env() as env:
            claims, _wait = env["llm.generation.engine"]._claim(1, queue_ids=[queue_id])
            [job_context] = env["llm.generation.engine"]._prefetch(claims)
            provider_class = type(env["llm.provider"])
        factory = EnvironmentFactory(self.registry.db_name, generation_inline=False)
        with patch.object(provider_class, "contended_chat", chat, create=True):
            factory.engine()._run(job_context, lent=True)
        return job_id

    def test_what_grows_after_the_cancellation_is_not_kept(self):
        def chat(provider, _messages, **_kwargs):
            yield {"content": "Hel"}
            with self._env() as env:
                domain = [("provider_id", "=", provider.id), ("state", "=", "running")]
                env["llm.generation.job"].search(domain).action_cancel()
            yield {"content": "lo"}

        with ExitStack() as stack:
            stack.enter_context(patch.object(executor, "CHUNK_INTERVAL", 0))
            if find_spec("odoo.addons.llm_thread.answer_stream"):  # the family has no interval
                interval = "odoo.addons.llm_thread.answer_stream.WRITE_INTERVAL"
                stack.enter_context(patch(interval, 0))
            job_id = self._run_one(chat)
        with self._env() as env:
            job = env["llm.generation.job"].browse(job_id)
            self.assertEqual(job.state, "cancelled")
            self.assertIn("Hel", job.output_message_id.body)
            self.assertNotIn("Hello", job.output_message_id.body)

    def test_who_holds_a_job_holds_up_no_other_verdict(self):
        with self._env() as env:
            jobs = env["llm.generation.job"].create([
                {"thread_id": self.thread_id, "generation_inputs": {"prompt": str(number)}}
                for number in range(3)
            ])
            jobs.action_queue()
            queue = env["llm.generation.queue"]._get_or_create_queue(self.provider_id)
            queue_id, ids = queue.id, jobs.ids
        with self._env() as env:
            claims, _wait = env["llm.generation.engine"]._claim(3, queue_ids=[queue_id])
            pairs = [(claim, Answer("completed")) for claim in claims]
        with self._env() as holder, self._env() as env:
            holder.cr.execute(
                "SELECT FROM llm_generation_job WHERE id = %s FOR NO KEY UPDATE", [ids[1]]
            )
            held = env["llm.generation.engine"]._complete_batch(pairs)
            self.assertEqual([claim.job_id for claim, _answer in held], [ids[1]])
            self.assertEqual(self._count("completed"), 2)
            self.assertEqual(env["llm.generation.engine"]._complete_batch(held), held)
        with self._env() as env:
            self.assertEqual(env["llm.generation.engine"]._complete_batch(held), [])
        self.assertEqual(self._count("completed"), 3)

    def test_a_verdict_on_a_job_that_moved_is_not_kept(self):
        with self._env() as env:
            job = env["llm.generation.job"].create({"thread_id": self.thread_id})
            job.action_queue()
            queue = env["llm.generation.queue"]._get_or_create_queue(self.provider_id)
            queue_id = queue.id
        with self._env() as env:
            claims, _wait = env["llm.generation.engine"]._claim(3, queue_ids=[queue_id])
        with self._env() as env:
            env["llm.generation.job"].browse(claims[0].job_id).action_cancel()
        with self._env() as env:
            held = env["llm.generation.engine"]._complete_batch([(claims[0], Answer("completed"))])
        self.assertEqual((held, self._count("cancelled")), ([], 1))

    def _running(self):
        return self._count("running")

    def _waiting(self):
        return self._count("queued")

    def _count(self, state):
        with self._env() as env:
            domain = [("provider_id", "=", self.provider_id), ("state", "=", state)]
            return env["llm.generation.job"].search_count(domain)


class Transaction:
    """A transaction of its own, in which jobs do not run inline."""

    def __init__(self, registry):
        self.cr = registry.cursor()

    def __enter__(self):
        return api.Environment(self.cr, SUPERUSER_ID, {"generation_inline": False})

    def __exit__(self, error_class, *_error):
        if error_class is None:
            self.cr.commit()  # pylint: disable=invalid-commit
        self.cr.close()
