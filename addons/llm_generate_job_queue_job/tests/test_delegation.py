import runpy
from pathlib import Path
from unittest.mock import patch

from odoo.addons.llm_generate_job.tests.common import PROMPT
from odoo.addons.queue_job.job import Job

from ..executor import QueueJobs
from .common import QueueJobCommon

KEY = "sk-canary-key"


class TestDelegation(QueueJobCommon):
    """What our claims become in queue_job."""

    def test_a_claim_becomes_a_record_in_the_channel_of_its_provider(self):
        job, record = self._handed_over()
        self.assertRecordValues(
            record,
            [
                {
                    "state": "pending",
                    "channel": f"root.llm.fakedirect_{self.direct.id}",
                    "model_name": "llm.generation.job",
                    "method_name": "_run_claimed",
                    "max_retries": 1,
                    "priority": job.priority,
                    "company_id": job.company_id.id,
                }
            ],
        )
        self.assertEqual(record.channel, self.direct_queue.queue_job_channel)
        self.assertEqual(record.records, job)
        self.assertEqual(list(record.args), [job.attempt_token])
        self.assertEqual((job.state, job.attempt_ids.runner_id), ("running", self.runner))
        self.assertFalse(self.service.calls["chat"])

    def test_the_button_of_the_record_opens_the_job(self):
        job, record = self._handed_over()
        action = record.open_related_action()
        self.assertEqual((action["res_model"], action["res_id"]), (job._name, job.id))

    def test_neither_the_key_nor_the_prompt_is_in_a_record(self):
        self.direct.api_key = KEY
        _job, record = self._handed_over()
        self._work(record)
        text = str(record.read())
        self.assertIn("_run_claimed", text)
        self.assertNotIn(KEY, text)
        self.assertNotIn(PROMPT, text)

    def test_not_more_is_handed_over_than_the_limit_lets_run(self):
        self.direct_queue.max_concurrent_jobs = 2
        jobs = [self._create_job("queued", model=self.direct_model) for _number in range(4)]
        self.assertEqual(len(self._hand_over()), 2)
        self.assertFalse(self._hand_over())
        self.assertEqual(sorted(job.state for job in jobs), ["queued"] * 2 + ["running"] * 2)

        running = next(job for job in jobs if job.state == "running")
        self._work(self._record_of(running))
        self.assertEqual(running.state, "completed")
        self.assertEqual(len(self._hand_over()), 1)

    def test_a_disabled_queue_hands_nothing_over(self):
        self._create_job("queued", model=self.direct_model)
        self.direct_queue.enabled = False
        self.assertFalse(self._hand_over())

    def test_what_cannot_be_handed_over_waits_again_at_no_cost(self):
        job = self._create_job("queued", model=self.direct_model)
        failing = patch.object(Job, "_store_values", side_effect=ValueError)
        with failing, self.assertRaises(ValueError):
            self._hand_over()
        self.assertRecordValues(job, [{"state": "queued", "retry_count": 0}])

    def test_it_can_be_switched_off_without_uninstalling(self):
        engine = self._engine()
        self.assertIsInstance(engine._executor(self.threads), QueueJobs)
        self._switch_off()
        self.assertIs(engine._executor(self.threads), self.threads)

    def test_where_queue_job_delays_nothing_the_threads_run_the_jobs(self):
        engine = self._engine().with_context(queue_job__no_delay=True)
        self.assertIs(engine._executor(self.threads), self.threads)

    def test_where_it_is_only_installed_nothing_changes(self):
        settings = self.env["res.config.settings"].create({})
        self.assertEqual(settings.llm_generation_executor, "runner")
        provider, _model = self._create_provider("New", "fakedirect")
        queue = self.env["llm.generation.queue"]._get_or_create_queue(provider)
        self.assertEqual(queue.executor, "runner")
        self.assertNotIn(queue.id, queue._delegated())
        module = self.env["ir.module.module"].search([("name", "=", "llm_generate_job_queue_job")])
        self.assertFalse(module.auto_install)

    def test_the_setting_is_of_new_queues(self):
        settings = self.env["res.config.settings"].create({})
        settings.llm_generation_executor = "queue_job"
        settings.execute()
        provider, _model = self._create_provider("New", "fakedirect")
        queue = self.env["llm.generation.queue"]._get_or_create_queue(provider)
        self.assertIn(queue.id, queue._delegated())

    def test_a_setting_that_is_none_is_the_default(self):
        self.env["ir.config_parameter"].set_param("llm_generate_job.executor", "threads")
        provider, _model = self._create_provider("New", "fakedirect")
        queue = self.env["llm.generation.queue"]._get_or_create_queue(provider)
        self.assertEqual(queue.executor, "runner")

    def test_a_database_that_had_it_keeps_its_way(self):
        script = Path(__file__).parents[1] / "migrations" / "19.0.1.1.0" / "post-migration.py"
        migrate = runpy.run_path(str(script))["migrate"]
        for before, after in ((False, "queue_job"), ("threads", "runner")):
            with self.subTest(before):
                self.queue.executor = "runner" if after == "queue_job" else "queue_job"
                self.env["ir.config_parameter"].set_param("llm_generate_job.executor", before)
                migrate(self.env.cr, "19.0.1.0.0")
                self.assertEqual(self.queue.executor, after)
                default = self.env["llm.generation.queue"].default_get(["executor"])
                self.assertEqual(default["executor"], after)

    def test_each_queue_has_its_own_executor(self):
        self.queue.executor = "runner"
        self._create_job("queued", model=self.direct_model)
        self._create_job("queued")
        both = (self.queue + self.direct_queue).ids
        count, (claims, _job_contexts), _wait = self.executor.take(
            3, self.runner.id, "host:1", both
        )
        self.assertEqual((count, len(claims)), (1, 1))
        self.assertEqual(self.threads.taken, [(3, self.queue.ids)])
        self.threads.free = 0
        self.executor.take(3, self.runner.id, "host:1", both)
        self.assertEqual(len(self.threads.taken), 1)

    def test_of_all_queues_the_threads_take_those_that_are_theirs(self):
        self.queue.executor = "runner"
        self.executor.take(3, self.runner.id, "host:1")
        [(slots, queue_ids)] = self.threads.taken
        self.assertEqual(slots, 3)
        self.assertIn(self.queue.id, queue_ids)
        self.assertNotIn(self.direct_queue.id, queue_ids)

    def test_the_threads_start_their_share_before_queue_job_gets_its_own(self):
        self._create_job("queued", model=self.direct_model)
        count, (claims, _job_contexts), _wait = self.executor.take(3, self.runner.id, "host:1")
        self.assertEqual(count, 1)
        failing = patch.object(Job, "_store_values", side_effect=ValueError)
        with failing, self.assertRaises(ValueError):
            self.executor.start((claims, ["job_context"]))
        self.assertEqual(self.threads.started, ["job_context"])

    def test_a_process_stays_while_its_claims_wait(self):
        self.assertFalse(self.executor.is_busy(self.runner.id))
        job, record = self._handed_over()
        self.assertTrue(self.executor.is_busy(self.runner.id))
        self.assertEqual(self.executor.held(self.runner.id), [job.attempt_token])
        self._work(record)
        self.assertFalse(self.executor.is_busy(self.runner.id))
