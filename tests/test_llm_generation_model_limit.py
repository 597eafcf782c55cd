from unittest.mock import patch

import psycopg2

from odoo.tools import mute_logger

from ..const import RUNNER_CHANNEL
from ..runner.messages import EVERYTHING, Queued
from .common import LlmGenerationCommon


class TestLlmGenerationModelLimit(LlmGenerationCommon):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.other_model = cls.native_model.copy({"name": "Other model"})
        cls.thread = cls._create_thread()

    def _limit(self, number=1, model=None):
        return self.env["llm.generation.model.limit"].create({
            "queue_id": self.queue.id,
            "model_id": (model or self.native_model).id,
            "max_concurrent_jobs": number,
        })

    def _queued(self, model):
        return self._create_job("queued", thread_id=self.thread.id, model_id=model.id)

    def _claim_many(self):
        claims, _wait = self._engine()._claim(100, queue_ids=self.queue.ids)
        return self.env["llm.generation.job"].browse(sorted(claim.job_id for claim in claims))

    def test_a_model_runs_no_more_than_its_limit(self):
        self._limit(2)
        jobs = [self._queued(self.native_model) for _job in range(4)]
        self.assertEqual(self._claim_many().ids, [job.id for job in jobs[:2]])
        self.assertFalse(self._claim_many())
        jobs[0].action_complete()
        self.assertEqual(self._claim_many().ids, [jobs[2].id])

    def test_other_models_do_not_wait_for_one_that_is_full(self):
        self._limit(1)
        mine = [self._queued(self.native_model) for _job in range(3)]
        others = [self._queued(self.other_model) for _job in range(2)]
        self.assertEqual(self._claim_many().ids, [mine[0].id, others[0].id, others[1].id])

    def test_one_look_fills_the_slots_behind_several_models_that_are_full(self):
        self._limit(1)
        self._limit(2, self.other_model)
        third = self.native_model.copy({"name": "Third model"})
        self.queue.max_concurrent_jobs = 4
        models = [self.native_model] * 5 + [self.other_model] * 5 + [third] * 5
        jobs = [self._queued(model) for model in models]
        self.assertEqual(self._claim_many().ids, [jobs[at].id for at in (0, 5, 6, 10)])

    def test_the_allowance_a_minute_holds_behind_a_full_model(self):
        self._limit(1)
        self.queue.write({"requests_per_minute": 130, "max_concurrent_jobs": 9})
        jobs = [self._queued(self.native_model) for _job in range(5)]
        jobs += [self._queued(self.other_model) for _job in range(5)]
        self.assertEqual(self._claim_many().ids, [jobs[0].id, jobs[5].id])

    def test_the_limit_of_the_queue_holds_besides(self):
        self.queue.max_concurrent_jobs = 2
        self._limit(5)
        for _job in range(4):
            self._queued(self.native_model)
        self.assertEqual(len(self._claim_many() | self._claim_many()), 2)

    def test_whoever_may_let_more_start_has_the_queue_looked_at(self):
        limit = self._limit(1)
        provider = self.queue.provider_id
        changes = {
            "the queue's slots": lambda: self.queue.write({"max_concurrent_jobs": 7}),
            "its allowance": lambda: self.queue.write({"requests_per_minute": 99}),
            "a model's slots": lambda: limit.write({"max_concurrent_jobs": 2}),
            "no limit of a model": limit.unlink,
            "an archived provider": lambda: provider.write({"active": True}),
        }
        for what, change in changes.items():
            with (
                self.subTest(what=what),
                patch.object(self.env.cr, "execute", side_effect=self.env.cr.execute) as execute,
            ):
                change()
                self.env.flush_all()
                said = [call.args[1] for call in execute.call_args_list if len(call.args) > 1]
                told = EVERYTHING if "provider" in what else Queued(self.queue.ids)
                self.assertIn([RUNNER_CHANNEL, told.payload], said)

    def test_a_model_has_one_limit_of_at_least_one(self):
        self._limit(1)
        with mute_logger("odoo.sql_db"), self.assertRaises(psycopg2.errors.UniqueViolation):
            self._limit(2)
        with mute_logger("odoo.sql_db"), self.assertRaises(psycopg2.errors.CheckViolation):
            self.env["llm.generation.model.limit"].search([]).max_concurrent_jobs = 0
            self.env.flush_all()
