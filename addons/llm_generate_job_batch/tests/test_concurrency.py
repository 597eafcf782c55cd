import threading
from unittest.mock import patch

from odoo.addons.llm_generate_job.const import RUNNER_THREADS
from odoo.addons.llm_generate_job.protocol.answer import Answer
from odoo.addons.llm_generate_job.tests.test_concurrency import THREADS, ConcurrencyCase

from ..models import llm_generation_engine


class TestConcurrency(ConcurrencyCase):
    def test_of_many_that_end_the_last_jobs_of_a_batch_one_tells_it(self):
        with self._env() as env:
            env["llm.generation.queue"]._get_or_create_queue(self.provider_id).write({
                "max_concurrent_jobs": THREADS
            })
            thread = env["llm.thread"].browse(self.thread_id)
            batch = env["llm.generation.job"].create_batch(["Hi"] * THREADS, threads=thread)
            batch_id, batch_class = batch.id, type(batch)
        self.addCleanup(self._remove_batch, batch_id)
        with self._env() as env:
            claims, _wait = env["llm.generation.engine"]._claim(THREADS)
        told, ended = [], threading.Barrier(THREADS)

        def end(env):
            env["llm.generation.engine"]._apply([(claims.pop(), Answer("completed"))])
            ended.wait(30)  # nobody has committed yet

        with patch.object(batch_class, "_on_done", lambda batch: told.append(batch.id)):
            self._at_once(end)
        self.assertEqual(told, [batch_id])

    def test_a_callback_that_takes_long_keeps_nobody_waiting(self):
        with self._env() as env:
            thread = env["llm.thread"].browse(self.thread_id)
            batch = env["llm.generation.job"].create_batch(["Hi"], threads=thread)
            batch_id, batch_class = batch.id, type(batch)
        self.addCleanup(self._remove_batch, batch_id)
        with self._env() as env:
            claims, _wait = env["llm.generation.engine"]._claim(1)
        may_end, told = threading.Event(), threading.Event()

        def on_done(_batch):
            self.assertTrue(may_end.wait(30))
            told.set()

        def end():
            with self._env() as env:
                env["llm.generation.engine"]._apply([(claims.pop(), Answer("completed"))])

        thread = threading.Thread(target=end, name=f"{RUNNER_THREADS}test", daemon=True)
        with patch.object(batch_class, "_on_done", on_done):
            thread.start()
            thread.join(20)
            self.assertFalse(thread.is_alive(), "it waits for the callback")
            self.assertFalse(told.is_set())
            may_end.set()
            self.assertTrue(told.wait(20))
            idle = threading.Event()
            llm_generation_engine.CALLBACKS.submit(idle.set)  # when its transaction has ended
            self.assertTrue(idle.wait(20))

    def _remove_batch(self, batch_id):
        with self._env() as env:
            env["llm.generation.batch"].browse(batch_id).unlink()
