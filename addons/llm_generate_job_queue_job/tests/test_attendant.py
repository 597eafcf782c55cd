import contextlib
import threading
import time
from unittest.mock import patch

from odoo.addons.llm_generate_job.protocol.answer import Claim
from odoo.addons.llm_generate_job.runner import limits as runner_limits
from odoo.addons.llm_generate_job.runner.notifier import private_connection
from odoo.addons.llm_generate_job.tests import test_concurrency

from .. import attendant as attendant_module

#: Seconds in which a thread has to do what it is waited for.
SOON = 30


class Line:
    """Stands for an open HTTP response: who reads from it waits until somebody hangs up."""

    def __init__(self):
        self.is_open = threading.Event()
        self.is_shut = threading.Event()

    def close(self):
        self.is_shut.set()


class TestAttendant(test_concurrency.TestConcurrency):
    """A process of queue_job's workers: real threads, real connections, real commits."""

    def setUp(self):
        self.line = Line()
        super().setUp()
        self.dbname = self.registry.db_name
        with self._env() as env:
            self.claimer = env["llm.generation.engine"]._runner_row("host:1", 4)
        self.addCleanup(self._stop)

    def _service(self, env):
        def chat(provider, _messages, **_options):
            provider.env.context["llm_on_response"](self.line)
            yield {"content": "Hel"}
            self.line.is_open.set()
            if not self.line.is_shut.wait(SOON):
                raise TimeoutError
            yield {"content": "lo"}

        provider_class = type(env["llm.provider"])
        self.enterContext(patch.object(provider_class, "contended_chat", chat, create=True))
        return super()._service(env)

    def _stop(self):
        for attendant in list(attendant_module._attendants.values()):
            attendant.stop()
            attendant.join(SOON)
        with self._env() as env:
            env["llm.generation.runner"].browse(self.claimer).exists().unlink()
            env["queue.job"].search([("method_name", "=", "_run_claimed")]).unlink()

    def _handed_over(self, *, number=1):
        """Return the claims on jobs that queue_job has; of one alone, that claim."""
        queue_id, _jobs = self._queue_jobs(number)
        with self._env() as env:
            delegation = env["llm.generation.delegation"]
            claims, _wait = env["llm.generation.engine"]._claim(
                number, self.claimer, "host:1", [queue_id]
            )
            delegation._hand_over(claims)
            return claims if number > 1 else claims[0]

    @contextlib.contextmanager
    def _at_work(self, claim):
        """Have a worker run a claim meanwhile, and wait for its end."""
        results = []

        def work():
            with self._env() as env:
                delegation = env["llm.generation.delegation"]
                results.append(delegation._execute_claimed(claim))

        thread = threading.Thread(target=work)
        thread.start()
        try:
            self.assertTrue(self.line.is_open.wait(SOON))
            yield results
        finally:
            self.line.close()
            thread.join(SOON)
        self.assertFalse(thread.is_alive())

    def _job(self, env, claim):
        return env["llm.generation.job"].browse(claim.job_id)

    def _attendant(self):
        (attendant,) = attendant_module._attendants.values()
        return attendant

    def _wait_for(self, what):
        deadline = time.monotonic() + SOON
        while not what() and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertTrue(what())

    def _lock_is_free(self, runner_id):
        with contextlib.closing(private_connection(self.dbname)) as connection:
            cursor = connection.cursor()
            key = [runner_limits.LIVENESS_LOCK, runner_id]
            cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", key)
            return cursor.fetchone()[0]

    def test_a_call_belongs_to_a_process_that_is_seen_to_live(self):
        claim = self._handed_over()
        with self._at_work(claim), self._env() as env:
            runner = self._job(env, claim).attempt_ids.runner_id
            self.assertEqual(runner.id, self._attendant().runner_id)
            self.assertNotEqual(runner.id, self.claimer)
            self.assertFalse(self._lock_is_free(runner.id))
        with self._env() as env:
            self.assertEqual(self._job(env, claim).state, "completed")

    def test_the_end_of_the_claimer_leaves_the_call_alone(self):
        claim = self._handed_over()
        with self._at_work(claim):
            with self._env() as env:
                engine = env["llm.generation.engine"]
                engine._rescue_lost(self.claimer, [])
                engine._unregister_runner(self.claimer)
                engine._rescue(0.0)
            with self._env() as env:
                self.assertEqual(self._job(env, claim).state, "running")
        with self._env() as env:
            self.assertEqual(self._job(env, claim).state, "completed")

    def test_who_cancels_a_running_job_hangs_up_in_the_worker(self):
        claim = self._handed_over()
        with self._at_work(claim):
            with self._env() as env:
                self._job(env, claim).action_cancel()
            self.assertTrue(self.line.is_shut.wait(SOON))
        with self._env() as env:
            self.assertEqual(self._job(env, claim).state, "cancelled")

    def test_a_job_that_a_business_transaction_holds_is_left_alone(self):
        claim = self._handed_over()
        with self._env() as holding:
            self._job(holding, claim).lock_for_update()
            with self._env() as env:
                begun = env["llm.generation.delegation"]._begin([claim], self.claimer, "host:1")
                self.assertEqual(begun, {})
        with self._env() as env:
            begun = env["llm.generation.delegation"]._begin([claim], self.claimer, "host:1")
            job_context, _refusal = begun[claim.token]
            self.assertEqual(job_context.claim, claim)

    # === TOGETHER === #

    def _spied(self, model, method, act):
        """Have a method of the engine's done by `act(original, self, *args, **kwargs)`."""
        model_class = self.registry[model]
        original = getattr(model_class, method)
        return patch.object(
            model_class, method, lambda one, *args, **kw: act(original, one, *args, **kw)
        )

    def _begin_together(self, claims):
        """Have workers begin claims at the same moment; return what each of them gets."""
        results = {}
        with contextlib.ExitStack() as stack:
            for claim in claims:
                attended = attendant_module.attend(self.dbname, claim)
                attendant, _call = stack.enter_context(attended)
            with attendant.beginning:
                threads = [
                    threading.Thread(
                        target=lambda claim=claim: results.update({claim: attendant.begin(claim)})
                    )
                    for claim in claims
                ]
                for thread in threads:
                    thread.start()
                self._wait_for(lambda: attendant._asked.qsize() == len(claims))
            for thread in threads:
                thread.join(SOON)
            # Nobody runs them: once their workers leave, the process gives back what it has begun.
            with self._env() as env:
                jobs = env["llm.generation.job"].browse(claim.job_id for claim in claims)
                jobs.action_cancel()
        return results

    def test_workers_that_come_meanwhile_are_begun_in_one_transaction(self):
        claims, together = self._handed_over(number=3), []

        def begin(original, delegation, asked, *args):
            together.append({claim.token for claim in asked})
            return original(delegation, asked, *args)

        with self._spied("llm.generation.delegation", "_begin", begin):
            results = self._begin_together(claims)
        self.assertEqual(together, [{claim.token for claim in claims}])
        for claim, (job_context, refusal) in results.items():
            self.assertEqual((job_context.claim, refusal), (claim, ""))

    def test_who_begins_for_others_and_fails_fails_alone(self):
        claims, failures = self._handed_over(number=3), []

        def begin(original, delegation, asked, *args):
            if not failures:
                failures.append(asked)
                raise ConnectionError
            return original(delegation, asked, *args)

        hook = patch.object(threading, "excepthook", lambda _args: None)
        with hook, self._spied("llm.generation.delegation", "_begin", begin):
            results = self._begin_together(claims)
        self.assertEqual(len(failures[0]), 3)
        self.assertEqual(len(results), 2)
        for claim, (job_context, _refusal) in results.items():
            self.assertEqual(job_context.claim, claim)

    def test_a_worker_ends_once_its_answer_is_stored(self):
        claim, may_store, results = self._handed_over(), threading.Event(), []

        def store(original, engine, *args, **kwargs):
            self.assertTrue(may_store.wait(SOON))
            return original(engine, *args, **kwargs)

        with self._spied("llm.generation.engine", "_complete_batch", store):
            with self._at_work(claim) as results:
                self.line.close()
                time.sleep(0.3)
                self.assertEqual(results, [])
                may_store.set()
            self.assertEqual(len(results), 1)
        with self._env() as env:
            self.assertEqual(self._job(env, claim).state, "completed")

    def test_a_claim_that_the_process_runs_is_not_run_twice(self):
        claim = self._handed_over()
        with self._at_work(claim), self._env() as env:
            result = env["llm.generation.delegation"]._execute_claimed(claim)
            self.assertIn("Superseded", result)
            self.assertIn(claim.token, self._attendant().calls)
        with self._env() as env:
            self.assertEqual(self._job(env, claim).state, "completed")

    def test_a_process_that_ends_gives_back_what_does_not_end_in_time(self):
        claim = self._handed_over()
        with patch.object(runner_limits, "GRACE", 0.5), self._at_work(claim):
            attendant = self._attendant()
            attendant.stop()
            self.assertTrue(self.line.is_shut.wait(SOON))
            attendant.join(SOON)
            with self._env() as env:
                job = self._job(env, claim)
                self.assertEqual((job.state, job.retry_count), ("queued", 0))
                self.assertFalse(env["llm.generation.runner"].browse(attendant.runner_id).exists())
            self.assertTrue(self._lock_is_free(attendant.runner_id))

    def test_a_call_whose_verdict_was_lost_is_given_back(self):
        claim = self._handed_over()
        with self._at_work(claim):
            attendant = self._attendant()
            attendant.calls.pop(claim.token)  # as after an error
            with self.assertLogs("odoo.addons.llm_generate_job", "WARNING"), self._env() as env:
                lost = env["llm.generation.engine"]._rescue_lost(
                    attendant.runner_id, list(attendant.calls)
                )
            self.assertEqual(lost, 1)
        with self._env() as env:
            self.assertEqual(self._job(env, claim).state, "queued")

    def test_a_process_without_calls_signs_off(self):
        claim = self._handed_over()
        with patch.object(runner_limits, "IDLE_TIMEOUT", 0.0):
            with self._at_work(claim):
                attendant = self._attendant()
            attendant.join(SOON)
        self.assertFalse(attendant.is_alive())
        self.assertFalse(attendant_module._attendants)
        with self._env() as env:
            self.assertFalse(env["llm.generation.runner"].browse(attendant.runner_id).exists())

    def test_a_process_that_was_taken_for_dead_signs_on_again(self):
        claim = self._handed_over()
        with self._at_work(claim):
            attendant = self._attendant()
            first = attendant.runner_id
            self._wait_for(lambda: not attendant.beginning.locked())
            with self._env() as env:
                env["llm.generation.runner"].browse(first).unlink()
            logger = "odoo.addons.llm_generate_job_queue_job.attendant"
            with (
                self.assertLogs(logger, "WARNING"),
                attendant_module.Listener(self.dbname, "test") as listener,
            ):
                attendant._maintain(listener)
            self.assertNotEqual(attendant.runner_id, first)

    def test_in_a_server_that_ends_nothing_begins(self):
        attended = attendant_module.attend(self.dbname, Claim(1, 1))
        stopping = patch.object(attendant_module.runners, "is_stopping", return_value=True)
        with stopping, self.assertRaises(TimeoutError), attended:
            self.fail("it was begun")
        self.assertFalse(attendant_module._attendants)

    def test_without_a_connection_a_worker_begins_nothing(self):
        claim = Claim(1, 1)
        failing = patch.object(attendant_module, "Listener", side_effect=ConnectionError)
        with failing, patch.object(attendant_module, "READY", 0.1):
            attended = attendant_module.attend(self.dbname, claim)
            with (
                self.assertLogs("odoo.addons.llm_generate_job_queue_job.attendant", "ERROR"),
                self.assertRaises(TimeoutError),
                attended,
            ):
                self.fail("it was begun")

    def test_code_that_waits_for_its_upgrade_begins_nothing(self):
        claim = self._handed_over()
        self.addCleanup(attendant_module.runners.warn_of_old_tables.cache_clear)

        def newer(_original, _engine):
            return ["llm_generate_job"]

        with (
            self._spied("llm.generation.engine", "_newer_than_tables", newer),
            patch.object(attendant_module, "READY", 1.0),
            self.assertLogs("odoo.addons.llm_generate_job.runner.runner", "WARNING"),
            self.assertRaises(TimeoutError),
            attendant_module.attend(self.dbname, claim),
        ):
            self.fail("it was begun")
        with self._env() as env:
            self.assertFalse(self._job(env, claim).attempt_ids.queue_job_begun_at)
