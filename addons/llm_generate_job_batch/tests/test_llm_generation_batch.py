import time
from datetime import timedelta
from unittest.mock import patch

import psycopg2

from odoo import fields
from odoo.exceptions import AccessError, UserError
from odoo.tests import users

from odoo.addons.llm_generate_job.engine.engine import ANNOUNCED
from odoo.addons.llm_generate_job.exceptions import BadRequestError, TransientError
from odoo.addons.llm_generate_job.models.llm_generation_bounds import BOUNDS, KEY_BOUND
from odoo.addons.llm_generate_job.tests.common import LlmGenerationCommon

LOGGER = "odoo.addons.llm_generate_job_batch.models.llm_generation_engine"


class TestLlmGenerationBatch(LlmGenerationCommon):
    def setUp(self):
        super().setUp()
        self.told = []
        told = self.told

        def callback(records, batch):
            told.append((records, batch.id, batch.state, batch.env.user, batch.env.su))

        self.enterContext(self._offered("res.partner", _on_generated=callback))
        self.partners = self.user.partner_id + self.manager.partner_id

    def _batch(self, inputs=("a", "b"), **values):
        values.setdefault("on_done", (self.partners, "_on_generated"))
        if "threads" not in values:
            values.setdefault("model", self.native_model)
        job = self.env["llm.generation.job"].with_user(self.user)
        return job.create_batch(inputs, **values).with_env(self.env)

    def _end(self, jobs, how="action_complete"):
        for job in jobs:
            self._claim(job)
            getattr(job, how)()

    # === MAKING ONE === #

    def test_each_prompt_becomes_a_job_with_a_thread_of_its_own(self):
        batch = self._batch(["a", {"prompt": "b", "max_tokens": 3}], priority=14, name="Texts")
        jobs = batch.job_ids.sorted("id")
        self.assertEqual(
            jobs.mapped("generation_inputs"), [{"prompt": "a"}, {"prompt": "b", "max_tokens": 3}]
        )
        self.assertEqual(jobs.mapped("state"), ["queued"] * 2)
        self.assertEqual(jobs.mapped("priority"), [14, 14])
        self.assertEqual(len(jobs.thread_id), 2)
        self.assertEqual(jobs.thread_id.mapped("name"), ["Texts"] * 2)
        self.assertEqual((batch.user_id, jobs.user_id, batch.name), (self.user, self.user, "Texts"))
        self.assertEqual((batch.state, batch.queued_count, batch.progress), ("running", 2, 0))

    def test_threads_may_be_given(self):
        one, other = self._create_thread(), self._create_thread()
        self.assertEqual(self._batch(threads=one).job_ids.thread_id, one)
        jobs = self._batch(threads=one + other).job_ids.sorted("id")
        self.assertEqual(jobs.mapped("thread_id.id"), [one.id, other.id])

    def test_what_does_not_fit_together_is_refused(self):
        thread = self._create_thread()
        for values in (
            {"threads": thread, "model": self.native_model},
            {"threads": thread.browse()},
            {"identity_keys": ["k"]},
            {"threads": thread + self._create_thread(), "inputs": ["a", "b", "c"]},
            {"on_done": (self.partners, "no_such_method")},
        ):
            with self.subTest(values), self.assertRaises(UserError):
                self._batch(**values)

    def test_nobody_asks_in_the_threads_or_the_name_of_others(self):
        thread = self._create_thread(user=self.manager)
        with self.assertRaises(AccessError):
            self._batch(threads=thread)
        with self.assertRaises(AccessError):
            self._batch(user_id=self.manager.id)
        with self.assertRaises(AccessError):
            self._batch(attempt_count=4)

    def test_the_context_of_a_request_chooses_nothing_of_the_engines(self):
        context = {
            "default_state": "completed",
            "default_cancel_requested": True,
            "default_external_job_id": "mine",
            "default_done_at": "2020-01-01 00:00:00",
            "default_callback_model": "res.partner",
            "default_callback_method": "_on_generated",
        }
        job = self.env["llm.generation.job"].with_user(self.user).with_context(**context)
        batch = job.create_batch(["a"], model=self.native_model).with_env(self.env)
        job = batch.job_ids
        self.assertEqual(
            (job.state, job.cancel_requested, job.external_job_id), ("queued", False, False)
        )
        self.assertEqual((batch.callback_method, batch.done_at), (False, False))

    def test_a_key_that_a_live_job_has_is_left_out(self):
        self._create_job("queued", identity_key="live")
        batch = self._batch(["a", "b", "c", "d"], identity_keys=["live", "new", "new", None])
        asked = [job.generation_inputs["prompt"] for job in batch.job_ids.sorted("id")]
        self.assertEqual(asked, ["b", "d"])

    def test_an_empty_key_is_none(self):
        batches = self._batch(["a", "b"], identity_keys=["", ""])
        batches += self._batch(["a"], identity_keys=[""])
        self.assertEqual(batches.job_ids.mapped("identity_key"), [False] * 3)

    def test_a_key_may_be_a_number(self):
        first, second = (self._batch(identity_keys=keys) for keys in ([0, 1], [0, 2]))
        self.assertEqual(set(first.job_ids.mapped("identity_key")), {"0", "1"})
        self.assertEqual(second.job_ids.mapped("identity_key"), ["2"])

    def test_the_defaults_of_a_page_are_none_of_jobs_and_threads(self):
        job = self.env["llm.generation.job"].with_user(self.user)
        page = job.with_context(
            default_priority=1,
            default_user_id=self.manager.id,
            default_model="res.company",
            default_res_id=1,
            default_post=False,
            default_scheduled_at="2099-01-01",
        )
        batch = page.create_batch(["Hi"], model=self.native_model)
        self.assertRecordValues(
            batch.job_ids,
            [{"priority": 10, "user_id": self.user.id, "post": True, "scheduled_at": False}],
        )
        self.assertFalse(batch.job_ids.thread_id.model)

    def test_a_key_that_is_too_long_is_refused(self):
        before = self.env["llm.generation.batch"].search_count([])
        with self.assertRaisesRegex(UserError, "longer than 256 characters"):
            self._batch(["a", "b"], identity_keys=["k", "k" * 3000])
        self.assertEqual(self.env["llm.generation.batch"].search_count([]), before)

    def test_a_batch_with_nothing_to_do_is_done(self):
        self._create_job("queued", identity_key="live")
        batch = self._batch(["a"], identity_keys=["live"])
        self.assertEqual((batch.state, batch.progress, len(self.told)), ("done", 100, 1))

    def test_inputs_that_the_model_refuses_leave_nothing(self):
        self.native_model.details = {
            "input_schema": {"type": "object", "required": ["size"], "properties": {}}
        }
        before = self.env["llm.generation.batch"].search_count([])
        with self.assertRaises(UserError):
            self._batch()
        self.assertEqual(self.env["llm.generation.batch"].search_count([]), before)

    def test_many_are_asked_for_with_the_statements_of_few(self):
        counts = []
        self._batch(["warm"])
        for number in (ANNOUNCED + 10, ANNOUNCED + 40):  # of few all is told, and read for that
            seen, execute = [], type(self.env.cr).execute

            def spy(cr, query, *rest, seen=seen, execute=execute, **kwargs):
                seen.append(query)
                return execute(cr, query, *rest, **kwargs)

            with self._knowing_nothing(), patch.object(type(self.env.cr), "execute", spy):
                self._batch([f"prompt {place}" for place in range(number)])
                self.env.flush_all()
            counts.append(len(seen))
        self.assertEqual(counts[0], counts[1])

    def _seconds(self, function):
        """Return the shorter time of two calls, what they wrote included."""
        times = []
        for _turn in range(2):
            self.env.flush_all()
            began = time.perf_counter()
            function()
            self.env.flush_all()
            times.append(time.perf_counter() - began)
        return min(times)

    def test_it_takes_no_longer_than_to_create_the_jobs_and_queue_them(self):
        Job, thread = self.env["llm.generation.job"].with_user(self.user), self._create_thread()
        inputs = [{"prompt": str(place)} for place in range(500)]

        def by_hand():
            values = [{"thread_id": thread.id, "generation_inputs": asked} for asked in inputs]
            Job.create(values).action_queue()

        by_hand()
        batch = self._seconds(lambda: Job.create_batch(inputs, threads=thread))
        hand = self._seconds(by_hand)
        self.assertLess(batch, 3 * hand)

    # === ITS END === #

    def test_the_callback_is_called_once_as_the_owner_when_the_last_job_has_ended(self):
        batch = self._batch()
        first, second = batch.job_ids.sorted("fair_rank")
        self._end(first)
        self.assertEqual((self.told, batch.progress, batch.state), ([], 50, "running"))
        self._end(second)
        self.assertEqual(self.told, [(self.partners, batch.id, "done", self.user, False)])
        self.assertEqual((batch.progress, batch.completed_count), (100, 2))
        self._engine()._tell_done(batch.ids)
        self._engine()._tell_done()
        self.assertEqual(len(self.told), 1)

    def test_another_addon_may_override_the_end(self):
        batch_class, ended = type(self.env["llm.generation.batch"]), []
        with patch.object(batch_class, "_on_done", lambda batch: ended.append(batch.name)):
            self._end(self._batch(["a"], name="Mine").job_ids)
        self.assertEqual((ended, self.told), (["Mine"], []))

    def test_a_failed_job_that_is_tried_again_has_not_ended(self):
        self.service.answers["create"] = [TransientError("Oops")]
        batch = self._batch(["a"], max_retries=1)
        self._process_queue()
        self.assertTrue(batch.job_ids.retry_at)
        self.assertEqual((self.told, batch.progress, batch.failed_count), ([], 0, 1))
        batch.job_ids.retry_at = fields.Datetime.now()
        self._engine()._retry_due()
        self._process_queue()
        self.assertEqual(batch.job_ids.retry_count, 1)
        self.assertEqual((len(self.told), batch.progress), (1, 100))

    def test_a_retry_that_is_given_up_ends_the_batch(self):
        self.service.answers["create"] = [TransientError("Oops")]
        batch = self._batch(["a"], identity_keys=["key"], max_retries=1)
        self._process_queue()
        self._create_job("queued", identity_key="key")
        batch.job_ids.retry_at = fields.Datetime.now()
        self._engine()._retry_due()
        self.assertEqual((len(self.told), batch.state), (1, "done"))

    def test_a_broken_callback_undoes_nothing_else(self):
        def broken(records, batch):
            records.sudo().write({"comment": "half-way"})
            raise RuntimeError(f"{batch.name}: Bearer sk-abcdefgh12345678")

        with (
            self._offered("res.partner", _on_broken=broken),
            self.assertLogs(LOGGER, "ERROR") as logs,
        ):
            batch = self._batch(["a"], on_done=(self.user.partner_id, "_on_broken"))
            self._end(batch.job_ids)
        self.assertIn(f"callback of batch {batch.id} failed", logs.output[0])
        self.assertIn("RuntimeError", logs.output[0])
        self.assertNotIn("sk-abcdefgh", logs.output[0])
        self.assertEqual((batch.state, batch.job_ids.state), ("done", "completed"))
        self.assertFalse(self.user.partner_id.comment)

    def test_a_batch_that_runs_is_not_deleted(self):
        batch = self._batch(["a"], post=False)
        with self.assertRaisesRegex(UserError, "Cancel it first"):
            batch.with_user(self.manager).unlink()
        batch.action_cancel()
        shared, job = batch.thread_id, batch.job_ids
        job.unlink()
        batch.with_user(self.manager).unlink()
        self.assertFalse(shared.exists())

    def test_what_a_deleted_batch_kept_goes_with_it(self):
        kept = self._batch(post=False, keep_texts=True)
        shared, jobs = kept.thread_id, kept.job_ids
        told = self._batch(["c"], post=False, keep_texts=True)
        untold = told.job_ids
        posted = self._batch(keep_texts=True)
        answers = posted.job_ids
        self._end(jobs + answers + untold)
        untold.sudo().cancel_requested = True  # the provider has still to be told
        (kept + posted + told).sudo().unlink()
        self.assertFalse(jobs.exists() or shared.exists())
        self.assertEqual((answers + untold).exists(), answers + untold)
        self.assertFalse(any((answers + untold).mapped("is_kept")))

    def test_a_batch_that_cannot_be_told_of_holds_up_no_other(self):
        batches = self._batch(["a"]) + self._batch(["b"])
        tell = type(batches)._on_done
        broken = batches.sorted("id")[0]

        def on_done(batch):
            if batch == broken:
                raise psycopg2.errors.LockNotAvailable
            return tell(batch)

        engine = type(self._engine())
        with (
            patch.object(type(batches), "_on_done", on_done),
            patch.object(engine, "_is_set_aside", lambda _self, _error: True),
        ):
            self._end(batches.job_ids)
        self.assertEqual(batches.sorted("id").mapped("state"), ["running", "done"])

    def test_the_scheduled_action_finds_what_a_dead_process_left(self):
        batch = self._batch(["a"])
        with patch.object(type(self._engine()), "_look_later", lambda *_args: None):
            self._end(batch.job_ids)
        self.assertEqual(self.told, [])
        self.env["llm.generation.queue"]._auto_retry_failed_jobs()
        self.assertEqual((len(self.told), batch.state), (1, "done"))

    # === ACTIONS === #

    def test_cancelling_gives_up_what_has_not_ended(self):
        batch = self._batch(["a", "b", "c"])
        first, second, _third = batch.job_ids.sorted("fair_rank")
        self._end(first)
        self._claim(second)
        batch.with_user(self.user).action_cancel()
        self.assertEqual((batch.completed_count, batch.cancelled_count), (1, 2))
        self.assertEqual((batch.state, len(self.told)), ("done", 1))
        with self.assertRaises(UserError):
            batch.action_cancel()

    def test_cancelling_gives_up_the_retries_that_are_ahead(self):
        later = fields.Datetime.now() + timedelta(minutes=5)
        for cancel in (
            lambda batch: batch.action_cancel(),
            lambda batch: self._bulk(batch.action_bulk_cancel()),
        ):
            batch = self._batch(["a", "b"])
            failed = batch.job_ids[0]
            failed.action_fail("It broke.")
            failed.retry_at = later
            cancel(batch.with_user(self.user))
            self.assertRecordValues(failed, [{"state": "failed", "retry_at": False}])
            self.assertEqual((batch.cancelled_count, batch.state), (1, "done"))

    def _bulk(self, action):
        params = action["params"]
        jobs = self.env["llm.generation.job"].with_user(self.user).browse(params["ids"])
        self.assertEqual(jobs.apply_bulk(params["what"])["refused"], {})

    def test_what_is_retried_by_hand_opens_the_batch_and_calls_nobody_again(self):
        self.service.answers["create"] = [BadRequestError("No"), "ext-2"]
        batch = self._batch(["a"])
        self._process_queue()
        self.assertEqual((batch.state, batch.failed_count, len(self.told)), ("done", 1, 1))
        with self.assertRaises(UserError):
            batch.with_user(self.user).action_retry_failed()  # it would be refused again
        batch.with_user(self.manager).action_retry_failed()
        self.assertEqual((batch.state, batch.queued_count), ("running", 1))
        self._end(batch.job_ids)
        self.assertEqual((batch.state, batch.completed_count, len(self.told)), ("done", 1, 1))
        with self.assertRaises(UserError):
            batch.action_retry_failed()

    def test_its_jobs_can_be_opened_and_it_can_be_found(self):
        batch = self._batch()
        Batch = self.env["llm.generation.batch"]
        action = batch.action_view_jobs()
        found = self.env["llm.generation.job"].search(action["domain"])
        self.assertEqual(found, batch.job_ids)
        self.assertIn(batch, Batch.search([("state", "=", "running")]))
        self.assertNotIn(batch, Batch.search([("state", "=", "done")]))

    @users("generation_user")
    def test_nobody_sees_the_batches_of_others(self):
        job = self.env["llm.generation.job"].with_user(self.manager)
        batch = job.create_batch(["a"], model=self.native_model)
        with self.assertRaises(AccessError):
            batch.with_user(self.env.user).read(["name"])
        self.assertNotIn(batch, self.env["llm.generation.batch"].search([]))

    def test_old_batches_go_with_their_jobs(self):
        old, young = self._batch(["a"]), self._batch(["b"])
        self._end(old.job_ids + young.job_ids)
        old.job_ids.completed_at = old.done_at = "2020-01-01 00:00:00"
        self.env["llm.generation.job"].cleanup_old_jobs()
        self.assertEqual((old + young).exists(), young)

    # === KEYS AND BOUNDS === #

    def test_a_key_by_hand_takes_none_of_a_batch(self):
        Job = self.env["llm.generation.job"]
        values = {"thread_id": self._create_thread().id, "generation_inputs": {"prompt": "Hello"}}
        later = {"identity_key": "other", "scheduled_at": "2099-01-01 00:00:00"}
        Job.with_user(self.user).create({**values, **later}).action_queue()
        self._create_thread().enqueue_generation("Hello", identity_key="key")
        batch = Job.create_batch(
            ["a", "b"], model=self.direct_model, identity_keys=["key", "other"]
        )
        self.assertEqual(batch.job_ids.mapped("identity_key"), ["other"])

    def test_an_empty_key_is_none_and_one_that_is_too_long_is_refused(self):
        batch = self._batch(identity_keys=["", ""])
        self.assertEqual(len(batch.job_ids), 2)
        with self.assertRaisesRegex(UserError, str(KEY_BOUND)):
            self._batch(["a"], identity_keys=["k" * (KEY_BOUND + 1)])

    def test_a_name_that_is_too_long_is_kept_nowhere(self):
        name = "n" * (BOUNDS["char"] + 1)
        batch = self._batch()
        with self.assertRaisesRegex(UserError, str(BOUNDS["char"])):
            batch.sudo().name = name
        with self.assertRaisesRegex(UserError, str(BOUNDS["char"])):
            batch.sudo().create({"name": name, "user_id": self.user.id})
