from datetime import timedelta
from unittest.mock import patch

import psycopg2

from odoo import SUPERUSER_ID, fields
from odoo.exceptions import AccessError, UserError
from odoo.tools import mute_logger

from ..const import STATES
from .common import LlmGenerationCommon, posted


class TestLlmGenerationJob(LlmGenerationCommon):
    def test_a_job_takes_provider_and_model_from_its_thread(self):
        thread = self._create_thread(self.direct_model)
        job = self.env["llm.generation.job"].create({"thread_id": thread.id})
        self.assertRecordValues(
            job,
            [
                {
                    "provider_id": self.direct.id,
                    "model_id": self.direct_model.id,
                    "state": "draft",
                    "priority": 10,
                    "max_retries": 3,
                    "retry_count": 0,
                }
            ],
        )

    def test_what_follows_from_threads_that_are_alike_is_computed_once(self):
        threads = self._create_thread(name="Same") + self._create_thread(name="Same")
        threads += self._create_thread(self.direct_model, name="Same")
        threads += self._create_thread(name="Other")
        job_class, seen = type(self.env["llm.generation.job"]), []
        compute = job_class._values_from_thread

        def spy(jobs, given, all_threads):
            seen.append(given["thread_id"])
            return compute(jobs, given, all_threads)

        with patch.object(job_class, "_values_from_thread", spy):
            jobs = self.env["llm.generation.job"].create([{"thread_id": one.id} for one in threads])
        self.assertEqual(seen, [threads[0].id, threads[2].id, threads[3].id])
        self.assertEqual(jobs.thread_id, threads)
        for job, thread in zip(jobs, threads, strict=True):
            self.assertEqual((job.model_id, job.user_id), (thread.model_id, thread.user_id))
            self.assertEqual(job.name.partition(" - ")[0], thread.name)

    def test_another_model_of_the_provider_may_be_asked(self):
        thread = self._create_thread(self.native_model)
        other = self.native_model.copy({"name": "Other model"})
        job = self._create_job(thread_id=thread.id, model_id=other.id)
        self.assertEqual((job.model_id, job.provider_id), (other, self.native))

    def test_a_job_is_named_after_its_thread_and_its_model(self):
        job = self._create_job(thread_id=self._create_thread(name="About cats").id)
        self.assertEqual(job.name, "About cats - Native model")
        self.assertEqual(job.display_name, "About cats - Native model (Draft)")

    def test_a_job_belongs_to_who_makes_it(self):
        thread = self._create_thread()
        job = self.env["llm.generation.job"].with_user(self.user).create({"thread_id": thread.id})
        self.assertEqual(job.user_id, self.user)
        self.assertEqual(job.company_id, self.user.company_id)

    def test_a_job_of_odoobot_belongs_to_the_owner_of_the_thread(self):
        thread = self._create_thread(user=self.manager)
        job = (
            self.env["llm.generation.job"].with_user(SUPERUSER_ID).create({"thread_id": thread.id})
        )
        self.assertEqual(job.user_id, self.manager)

    def test_the_company_of_the_provider_goes_before_that_of_the_user(self):
        company = self.env["res.company"].create({"name": "Elsewhere"})
        self.native.company_id = company
        self.assertEqual(self._create_job(user=self.env.user).company_id, company)

    def test_there_are_few_indexes(self):
        # Each costs each job a write: `llm_generation_job.py` says what each is for.
        self.env.cr.execute(
            "SELECT indexname FROM pg_indexes WHERE tablename = 'llm_generation_job'"
        )
        names = {row[0] for row in self.env.cr.fetchall()}
        # What an addon brings is for that addon to weigh.
        module = self.env.ref("base.module_llm_generate_job")
        others = self.env["ir.model.constraint"].search([("module", "!=", module.id)])
        names -= set(others.mapped("name"))
        for field in self.env["llm.generation.job"]._fields.values():
            if field._module != module.name:
                names.discard(f"llm_generation_job__{field.name}_index")
        self.assertGreater(len(names), 5)
        self.assertLessEqual(len(names), 10, names)

    def test_a_board_begins_with_what_somebody_may_have_to_do_something_about(self):
        jobs = self.env["llm.generation.job"]
        for state in ("cancelled", "completed", "queued", "failed", "running"):
            jobs += self._create_job(state)
        jobs = jobs.with_context(read_group_expand=True)
        board = jobs.web_read_group([("id", "in", jobs.ids)], ["state"])
        shown = [group["state"] for group in board["groups"]]
        self.assertEqual(shown, ["running", "failed", "queued", "completed", "cancelled"])

    def test_a_running_job_is_not_deleted(self):
        job = self._create_job("running")
        self.assertIn("Cancel it first", self._refusal(job.unlink))
        job.action_cancel()
        job.unlink()
        self.assertFalse(job.exists())

    def test_a_deleted_thread_takes_its_jobs_along(self):
        job = self._create_job("completed")
        job.thread_id.sudo().unlink()
        self.assertFalse(job.exists())

    def test_the_conversation_of_a_job_can_be_opened(self):
        job = self._create_job()
        action = job.action_open_thread()
        self.assertEqual((action["res_model"], action["res_id"]), ("llm.thread", job.thread_id.id))

    def test_retries_cannot_be_negative(self):
        with self.assertRaisesRegex(UserError, "from 0 to 100"):
            self._create_job(max_retries=-1)
        job = self._create_job()
        self.env.flush_all()
        statement = "UPDATE llm_generation_job SET max_retries = -1 WHERE id = %s"
        with mute_logger("odoo.sql_db"), self.assertRaises(psycopg2.errors.CheckViolation):
            self.env.cr.execute(statement, [job.id])

    def test_a_copy_starts_from_scratch(self):
        job = self._create_job("failed", identity_key="one", priority=3)
        job.write({"external_job_id": "ext-1", "retry_count": 2})
        self.assertRecordValues(
            job.copy(),
            [
                {
                    "state": "draft",
                    "priority": 3,
                    "identity_key": False,
                    "external_job_id": False,
                    "error_message": False,
                    "retry_count": 0,
                    "queued_at": False,
                    "completed_at": False,
                }
            ],
        )

    def test_a_user_copies_what_is_their_own(self):
        job = self._create_job("failed").with_user(self.user)
        copied = job.copy()
        self.assertRecordValues(copied, [{"state": "draft", "user_id": self.user.id}])
        self.assertEqual(copied.generation_inputs, job.generation_inputs)

    # === IDENTITY === #

    def test_two_live_jobs_cannot_have_one_identity(self):
        self._create_job("queued", identity_key="invoice-7")
        twin = self._create_job(identity_key="invoice-7")
        with (
            self.assertNoLogs("odoo.sql_db", "ERROR"),
            self.assertRaises(psycopg2.errors.UniqueViolation),
        ):
            twin.action_queue()

    def test_an_identity_is_free_again_when_its_job_has_ended(self):
        for state in ("draft", "completed", "failed", "cancelled"):
            with self.subTest(state=state):
                self._create_job(state, identity_key=f"after {state}")
                second = self._create_job("queued", identity_key=f"after {state}")
                self.assertEqual(second.state, "queued")

    def test_enqueueing_an_identity_again_returns_its_live_job(self):
        thread = self._create_thread()
        job = thread.enqueue_generation("How are you?", identity_key="once")
        again = thread.enqueue_generation("How are you?", identity_key="once")
        self.assertEqual(again, job)
        self.assertEqual(len(thread.generation_job_ids), 1)
        self.assertEqual(len(thread.message_ids.filtered(lambda m: m.llm_role == "user")), 1)
        job.action_cancel()
        self.assertNotEqual(thread.enqueue_generation("And now?", identity_key="once"), job)

    def test_each_company_has_identities_of_its_own(self):
        other = self.env["res.company"].create({"name": "Elsewhere"})
        self._create_job("queued", identity_key="shared")
        self.direct.company_id = other
        twin = self._create_job("queued", self.direct_model, self.env.user, identity_key="shared")
        self.assertEqual(twin.state, "queued")

    def _by_hand(self, user, key, **values):
        """Have a user create and queue a job with a key, as over RPC."""
        thread = self._create_thread(user=user)
        job = (
            self
            .env["llm.generation.job"]
            .with_user(user)
            .create({
                "thread_id": thread.id,
                "generation_inputs": {"prompt": "Hello"},
                "identity_key": key,
                **values,
            })
        )
        job.action_queue()
        return job

    def test_a_key_by_hand_takes_none_of_code(self):
        thread = self._create_thread()
        mine = self._by_hand(self.user, "key", scheduled_at="2099-01-01 00:00:00")
        self.assertEqual((mine.state, mine.identity_key), ("queued", "key"))
        job = thread.enqueue_generation("Hello", identity_key="key")
        self.assertNotEqual(job, mine)
        self.assertEqual((job.state, job.identity_key), ("queued", "key"))
        self.assertEqual(thread.enqueue_generation("Hello", identity_key="key"), job)

    def test_a_key_by_hand_is_compared_with_the_own_ones_only(self):
        self._create_job("queued", identity_key="of code")
        thread = self._create_thread(user=self.manager)
        thread.enqueue_generation("Hello", identity_key="of code too")
        self._by_hand(self.manager, "of another")
        for key in ("of code", "of code too", "of another"):
            with self.subTest(key):
                self.assertEqual(self._by_hand(self.user, key).state, "queued")
                with mute_logger("odoo.sql_db"), self.assertRaises(psycopg2.errors.UniqueViolation):
                    self._by_hand(self.user, key)

    def test_a_key_by_hand_is_the_own_one_whatever_way_it_comes(self):
        self._create_job("queued", identity_key="key")
        Job = self.env["llm.generation.job"].with_user(self.user)
        values = {"generation_inputs": {"prompt": "Hello"}}
        with_default = Job.with_context(default_identity_key="key").create({
            **values,
            "thread_id": self._create_thread().id,
        })
        thread = self._create_thread()
        thread.write({"generation_job_ids": [(0, 0, {**values, "identity_key": "by thread"})]})
        written = Job.create({**values, "thread_id": self._create_thread().id})
        written.identity_key = "written"
        of_code = self._create_job(identity_key="old")
        of_code.with_user(self.user).identity_key = "rewritten"
        drafts = with_default + thread.generation_job_ids + written + of_code
        self.assertEqual(drafts.sudo().mapped("identity_scope"), [self.user.id] * 4)
        self.assertEqual(with_default.identity_key, "key")
        with self.assertRaises(AccessError):
            Job.create({"thread_id": thread.id, "identity_key": "key", "identity_scope": 0})
        with self.assertRaises(AccessError):
            written.identity_scope = 0
        with_default.action_queue()
        self.assertEqual(with_default.state, "queued")

    def test_retries_of_keys_by_hand_and_of_code_do_not_meet(self):
        of_code = self._create_job("failed", identity_key="key")
        by_hand = self._by_hand(self.user, "key")
        self.assertEqual(of_code._filtered_identity_free(), of_code)
        spent = "No failed job can be retried."
        reasons = {button["reason"] for button in self.queue.buttons}
        self.assertNotIn(spent, reasons)
        of_code.action_retry()
        self.assertEqual((of_code.state, by_hand.state), ("queued", "queued"))

    # === CHECK STATUS === #

    def test_there_is_nothing_to_ask_of_a_job_that_does_not_run(self):
        for state, _label in STATES:
            if state not in {"queued", "running"}:
                with self.subTest(state=state):
                    self.assertIs(self._create_job(state).check_status(), False)
        self.assertFalse(self.service.calls["check"])

    def test_asking_about_a_job_that_nobody_else_can_see_says_to_commit(self):
        job = self._create_job("queued")
        self.assertIn("Commit first", self._refusal(job.check_status))
        self.assertEqual(job.state, "queued")

    def test_asking_applies_the_answer_and_returns_it(self):
        job = self._create_job("queued")
        self._process_queue()
        self.service.answers["check"] = [
            {"state": "running", "progress": 40, "provider_data": {"logs": "…"}},
            posted("Hi", usage={"prompt_tokens": 3, "completion_tokens": 1}),
        ]

        self.assertEqual(job.check_status()["progress"], 40)
        self.assertEqual((job.state, job.progress), ("running", 40))
        self.assertEqual(job.provider_data, {"logs": "…"})

        self.assertEqual(job.check_status()["state"], "completed")
        self.assertEqual((job.state, job.progress), ("completed", 100))
        self.assertIn("Hi", job.output_message_id.body)
        self.assertEqual((job.prompt_tokens, job.completion_tokens), (3, 1))

    def test_asking_while_the_provider_is_away_leaves_the_job_alone(self):
        job = self._create_job("queued")
        self._process_queue()
        self.service.answers["check"] = [ConnectionResetError("gone")]
        self.assertIs(job.check_status(), False)
        self.assertEqual((job.state, job.external_job_id), ("running", "ext-1"))

    def test_only_who_may_see_a_job_may_ask_about_it(self):
        job = self._create_job("queued")
        other = self._create_job("draft", user=self.manager)
        self.assertTrue(self._refusal(other.with_user(self.user).check_status))
        self.assertEqual(job.with_user(self.user).state, "queued")

    # === CLEAN UP === #

    def test_what_is_tried_again_is_not_removed(self):
        job = self._create_job("failed")
        job.write({
            "completed_at": fields.Datetime.now() - timedelta(days=8),
            "retry_at": fields.Datetime.now() + timedelta(hours=1),
        })
        self.assertEqual(self.env["llm.generation.job"].cleanup_old_jobs(), 0)
        job.retry_at = False
        self.assertEqual(self.env["llm.generation.job"].cleanup_old_jobs(), 1)

    def test_old_jobs_are_removed_and_their_messages_stay(self):
        jobs = {state: self._create_job(state) for state, _label in STATES}
        young = self._create_job("completed")
        thread = jobs["completed"].thread_id
        message = thread.message_post(body="Keep me", llm_role="assistant")
        jobs["completed"].output_message_id = message
        ended = [jobs[state] for state in ("completed", "failed", "cancelled")]
        for job in ended:
            job.completed_at -= timedelta(days=8)
        young.completed_at -= timedelta(days=6)

        self.assertEqual(self.env["llm.generation.job"].cleanup_old_jobs(), 3)

        self.assertFalse(any(job.exists() for job in ended))
        self.assertTrue(young.exists() and message.exists())
        self.assertTrue(all(jobs[state].exists() for state in ("draft", "queued", "running")))

    def test_how_old_is_a_question_of_the_caller(self):
        job = self._create_job("completed")
        job.completed_at -= timedelta(days=3)
        cleanup = self.env["llm.generation.job"].cleanup_old_jobs
        self.assertEqual(cleanup(days=4), 0)
        self.assertEqual(cleanup(days=2), 1)

    def test_cleaning_up_goes_on_until_nothing_is_left(self):
        jobs = self.env["llm.generation.job"]
        thread = self._create_thread()
        for _job in range(5):
            jobs |= self._create_job("cancelled", thread_id=thread.id)
        jobs.write({"completed_at": fields.Datetime.now() - timedelta(days=30)})
        retention = "odoo.addons.llm_generate_job.engine.maintain.CLEAN_UP_BATCH"
        with self._patched(retention, 2):
            self.assertEqual(self.env["llm.generation.job"].cleanup_old_jobs(), 5)
        self.assertFalse(jobs.exists())

    def test_the_retention_is_a_setting(self):
        job = self._create_job("completed")
        job.completed_at -= timedelta(days=3)
        self.env["ir.config_parameter"].set_param("llm_generate_job.retention_days", "2")
        self.env["llm.generation.job"]._cron_clean_up()
        self.assertFalse(job.exists())
