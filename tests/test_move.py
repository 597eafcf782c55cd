from odoo import Command
from odoo.exceptions import AccessError, UserError
from odoo.tools import mute_logger

from ..exceptions import BadRequestError
from .common import LlmGenerationCommon
from .rights import has_table


class TestMove(LlmGenerationCommon):
    """What failed is answered by another model: one that its owner may use, a manager chooses."""

    def _move(self, jobs, model=None, user=None):
        model = model or self.native_model
        return jobs.with_user(user or self.manager).apply_bulk("move", model.id)

    def _refused(self, job, model=None, user=None):
        """Return why a job is not moved, which changes nothing."""
        names = ["provider_id", "model_id", "state"]
        before = self._values(job, names) + self._values(job.thread_id, names[:2])
        result = self._move(job, model, user)
        self.assertEqual(result["done"], 0)
        after = self._values(job, names) + self._values(job.thread_id, names[:2])
        self.assertEqual(after, before)
        [reason] = result["refused"]
        return reason

    def test_a_chat_is_answered_by_the_other_model(self):
        other, model = self._create_provider("Spare", "fakedirect")
        jobs = self._create_job("failed", self.direct_model, max_retries=1)
        jobs += self._create_job("failed", self.direct_model)
        jobs[0].sudo().retry_count = 1

        self.assertEqual(self._move(jobs, model), {"done": 2, "refused": {}})

        place = {"provider_id": other.id, "model_id": model.id}
        self.assertRecordValues(jobs, [{**place, "state": "queued", "retry_count": 0}] * 2)
        self.assertRecordValues(jobs.thread_id, [place] * 2)
        self.assertIn("Spare model", jobs[0].name)
        self.assertEqual(self._process_queue(self.direct), 0)
        self.assertEqual(self._process_queue(other), 2)
        self.assertEqual(jobs.mapped("state"), ["completed"] * 2)

    def test_it_moves_to_another_model_of_its_provider(self):
        model = self.direct_model.copy({"name": "Second"})
        job = self._create_job("failed", self.direct_model)
        self.assertEqual(self._move(job, model)["done"], 1)
        self.assertEqual((job.model_id, job.thread_id.model_id), (model, model))

    def test_jobs_of_one_conversation_move_together(self):
        thread = self._create_thread(self.direct_model)
        jobs = self._create_job("failed", thread_id=thread.id)
        jobs += self._create_job("failed", thread_id=thread.id)
        self.assertEqual(self._move(jobs)["done"], 2)
        self.assertEqual((jobs.model_id, thread.model_id), (self.native_model,) * 2)

    def test_what_posts_nothing_moves_without_its_conversation(self):
        thread = self._create_thread(self.direct_model)
        other, model = self._create_provider("Spare", "fakedirect")
        values = {"thread_id": thread.id, "post": False}
        job = self._create_job("failed", **values)
        self._create_job("queued", **values)
        self.assertEqual(self._move(job, model)["done"], 1)
        self.assertEqual((job.model_id, thread.model_id), (model, self.direct_model))
        self.assertEqual(self._process_queue(other), 1)
        self.assertEqual(job.state, "completed", job.error_message)

    def test_what_does_not_wait_for_a_retry_is_left(self):
        self.assertEqual(self._refused(self._create_job("queued")), "did not fail")
        job = self._create_job("failed", self.direct_model)
        job.sudo().error_type = "content_refused"
        self.assertEqual(self._refused(job), "would be refused again")

    def test_only_a_manager_moves(self):
        job = self._create_job("failed", self.direct_model)
        self.assertEqual(self._refused(job, user=self.user), "only a manager may do that")

    def test_its_owner_has_to_be_able_to_use_the_model(self):
        self._needs(has_table("llm"), "with rules of companies")
        provider, model = self._create_provider("Far", "fakedirect")
        provider.company_id = self.env["res.company"].create({"name": "Elsewhere"})
        job = self._create_job("failed", self.direct_model)
        with self.assertRaises(AccessError):
            self._move(job, model)  # so has who moves it
        self.manager.company_ids += provider.company_id
        self.assertEqual(self._refused(job, model), "their users may not use that model")

    def test_a_conversation_of_somebody_else_stays(self):
        job = self._create_job("failed", self.direct_model)
        job.thread_id.user_id = self.manager
        self.assertEqual(self._refused(job), "the conversation is somebody else's by now")

    def test_who_may_no_longer_change_the_conversation_keeps_its_model(self):
        jobs = self._create_job("failed", self.direct_model)
        jobs += self._create_job("failed", self.direct_model)
        self.env["ir.rule"].create({
            "name": "Kept as it is",
            "model_id": self.env["ir.model"]._get_id("llm.thread"),
            "domain_force": f"[('id', '!=', {jobs[0].thread_id.id})]",
            "perm_read": False,
            "perm_create": False,
            "perm_unlink": False,
        })
        reason = "their users may no longer change the conversation"
        self.assertEqual(self._move(jobs), {"done": 1, "refused": {reason: 1}})
        self.assertEqual(jobs.mapped("state"), ["failed", "queued"])

    def test_a_model_that_was_chosen_since_stays(self):
        job = self._create_job("failed", self.direct_model)
        _provider, chosen = self._create_provider("Chosen", "fakedirect")
        job.thread_id.write({"provider_id": chosen.provider_id.id, "model_id": chosen.id})
        self.assertEqual(self._refused(job), "the conversation has another model by now")
        self.assertEqual(self._move(job, chosen)["done"], 1)  # which its owner chose

    def test_tools_are_run_by_a_provider_that_their_owner_trusts(self):
        tool = self.env["llm.tool"].create({
            "name": "look",
            "description": "Looks",
            "implementation": self._tool_implementation(),
        })
        jobs = self._create_job("failed", self.direct_model)
        jobs += self._create_job("failed", self.direct_model)
        jobs += self._create_job("failed", self.direct_model, self.manager)
        jobs.thread_id.sudo().tool_ids = tool
        self.assertEqual(
            self._refused(jobs[0]),
            "the conversation has tools: only its user or an administrator may change its provider",
        )
        second = self.direct_model.copy({"name": "Second"})
        self.assertEqual(self._move(jobs[0], second)["done"], 1)  # of the same provider
        self.assertEqual(self._move(jobs[2])["done"], 1)  # the manager's own
        self.manager.group_ids = [Command.link(self.env.ref("base.group_system").id)]
        self.assertEqual(self._move(jobs[1])["done"], 1)

    def test_what_else_the_conversation_asks_goes_along(self):
        thread = self._create_thread(self.direct_model)
        other = self.direct_model.copy({"name": "Other"})
        values = {"thread_id": thread.id}
        job, failed = (self._create_job("failed", **values) for _job in range(2))
        draft = self._create_job(**values)
        apart = self._create_job("failed", **values, post=False)
        apart += self._create_job(**values, model_id=other.id)
        before = apart.mapped("model_id")

        self.assertEqual(self._move(job)["done"], 1)

        place = {"provider_id": self.native.id, "model_id": self.native_model.id}
        self.assertRecordValues(
            job + failed + draft,
            [{**place, "state": state} for state in ("queued", "failed", "draft")],
        )
        self.assertEqual(apart.mapped("model_id"), before)

    def test_a_job_stays_with_its_company(self):
        company = self.env["res.company"].create({"name": "Elsewhere"})
        (self.user + self.manager).company_ids += company
        provider, model = self._create_provider("Spare", "fakedirect")
        provider.company_id = company
        thread = self._create_thread(self.direct_model)
        values = {"thread_id": thread.id, "company_id": company.id}
        job = self._create_job("failed", **values, post=False)
        self.assertEqual(self._move(job, model), {"done": 1, "refused": {}})
        self.assertEqual((job.model_id, job.company_id), (model, company))

    def test_an_answer_that_is_under_way_keeps_its_model(self):
        reason = "another answer of the conversation waits or runs"
        job = self._create_job("failed", self.direct_model)
        other = self._create_job("queued", thread_id=job.thread_id.id)
        self.assertEqual(self._refused(job), reason)
        other.action_fail("It broke.")
        other.sudo().retry_at = "2030-01-01 00:00:00"
        self.assertEqual(self._refused(job), reason)
        other.action_stop_retrying()
        self.assertEqual(self._move(job)["done"], 1)

    def test_the_model_has_to_be_of_the_kind(self):
        job = self._create_job("failed", self.direct_model)
        for use in ("image_generation", "embedding"):
            model = self.native_model.copy({"name": use, "model_use": use})
            self.assertEqual(self._refused(job, model), "that model does something else")
        with self.assertRaises(UserError):
            job.with_user(self.manager).apply_bulk("move")

    def test_the_model_has_to_accept_the_inputs(self):
        job = self._create_job("failed", self.direct_model, generation_inputs={"prompt": "Hi"})
        self.native_model.details = {
            "input_schema": {"type": "object", "required": ["size"], "properties": {"size": {}}}
        }
        self.assertEqual(self._refused(job), "that model does not accept the inputs")

    def test_what_may_go_on_at_its_provider_is_ended_there_first(self):
        job = self._create_job("queued")
        self._process_queue()
        self.assertEqual(job.external_job_id, "ext-1")
        job._set_state("failed", error_type="timeout", cancel_requested=True)
        reason = "their provider is just being told to stop"
        self.assertEqual(self._refused(job, self.direct_model), reason)
        job.cancel_requested = False
        self.assertEqual(self._refused(job, self.direct_model), reason)  # its slot is held yet
        self.env["llm.generation.held.slot"].search([]).unlink()
        spare, model = self._create_provider("Spare", "fakenative")

        self.assertEqual(self._move(job, model)["done"], 1)

        self.service.calls["cancel"].clear()
        self._process_queue(spare)
        self.assertFalse(self.service.calls["cancel"])  # the new one knows nothing of ext-1
        self.assertEqual(job.attempt_ids.mapped("number"), [2, 1])

    def test_what_nobody_comes_back_for_is_ended_at_its_provider(self):
        for error, error_type in (
            (BadRequestError("No such page"), "bad_request"),
            (ValueError("A bug"), "internal"),
        ):
            with self.subTest(error_type):
                self.service.reset()
                job = self._create_job("queued")
                self._process_queue()
                self.service.answers["check"] = [error]
                with mute_logger("odoo.addons.llm_generate_job.engine.execute"):
                    job.check_status()
                self.assertEqual((job.state, job.error_type), ("failed", error_type))
                reason = "their provider is just being told to stop"
                self.assertEqual(self._refused(job, self.direct_model), reason)
                self._engine()._cancel_at_providers()
                self.assertEqual(self.service.calls["cancel"], [job.id])
                self.assertEqual(self._move(job, self.direct_model)["done"], 1)

    def test_a_call_of_an_earlier_attempt_ends_first(self):
        job = self._create_job("queued")
        claim = self._claim(job)
        job._set_state("queued")  # given back: its call goes on
        self._claim(job)
        job._set_state("failed", call_ended=True, error_type="internal")
        reason = "their provider is just being told to stop"
        self.assertEqual(self._refused(job, self.direct_model), reason)
        self._apply(claim, state="failed", error_type="transient")
        self.assertEqual(self._move(job, self.direct_model)["done"], 1)

    def test_what_goes_along_is_ended_at_its_provider_first(self):
        job = self._create_job("failed")
        other = self._create_job("failed", thread_id=job.thread_id.id)
        other.cancel_requested = True
        reason = "their provider is just being told to stop"
        self.assertEqual(self._refused(job, self.direct_model), reason)
        other.cancel_requested = False
        self.assertEqual(self._move(job, self.direct_model)["done"], 1)

    # === THE QUESTION === #

    def _ask(self):
        """Press the button of the incident that there is, and return its form."""
        queue = self.direct_queue.with_user(self.manager)
        [incident] = queue.get_dashboard()["incidents"]
        self.assertIn("move", [button["name"] for button in incident["buttons"]])
        action = queue.press_incident_button("move", incident["error_type"], incident["since"])
        move = self.env[action["res_model"]].with_user(self.manager)
        return move.with_context(**action["context"])

    def test_the_form_tells_the_number_and_offers_what_works(self):
        spare, model = self._create_provider("Spare", "fakedirect")
        spares = self.env["llm.generation.queue"]._get_or_create_queue(spare)
        jobs = self._create_job("failed", self.direct_model)
        jobs += self._create_job("failed", self.direct_model)
        self.queue.enabled = False
        others = self.env["llm.generation.queue"].search([
            ("id", "not in", (spares + self.direct_queue).ids)
        ])
        others.enabled = False
        form = self._ask().new({})
        self.assertEqual((form.job_count, form.provider_id), (2, spare))
        self.assertEqual(form.model_id, model)
        form.provider_id = self.native
        self.assertEqual(form.model_id, self.native_model)

        move = self._ask().create({"provider_id": spare.id, "model_id": model.id})
        params = move.action_apply()["params"]

        self.assertEqual((params["what"], params["value"]), ("move", model.id))
        self.assertEqual(set(params["ids"]), set(jobs.ids))


class TestAnotherModel(LlmGenerationCommon):
    """A chat is answered by its conversation's model, and within the limits of that one."""

    def setUp(self):
        super().setUp()
        self.spare, self.spare_model = self._create_provider("Spare", "fakedirect")
        self.place = {"provider_id": self.spare.id, "model_id": self.spare_model.id}

    def _choose(self, job, model=None):
        """Have the owner choose another model for the conversation of a job."""
        model = model or self.spare_model
        place = {"provider_id": model.provider_id.id, "model_id": model.id}
        job.thread_id.with_user(self.user).write(place)

    def test_what_waits_follows_its_conversation(self):
        self.direct_queue.enabled = False
        job = self._create_job("queued", self.direct_model)
        self._choose(job)
        self.assertRecordValues(job, [{**self.place, "state": "queued", "retry_count": 0}])
        self.assertEqual(job.queue_position, 1)
        self.assertEqual(self._process_queue(self.direct), 0)
        self.assertEqual(self._process_queue(self.spare), 1)
        self.assertEqual(job.state, "completed", job.error_message)
        self.assertEqual(job.attempt_ids.number, 1)

    def test_it_joins_the_end_of_the_other_line(self):
        spare_queue = self.env["llm.generation.queue"]._get_or_create_queue(self.spare)
        (self.direct_queue + spare_queue).write({"enabled": False})
        first = self._create_job("queued", self.spare_model, self.manager)
        second = self._create_job("queued", self.spare_model, self.manager)
        job = self._create_job("queued", self.direct_model)
        own = self._create_job("queued", self.direct_model)
        self._choose(job)
        self._choose(own)
        line = sorted(first + second + job + own, key=lambda one: one.queue_position)
        self.assertEqual(line, [first, job, second, own])  # a turn for each of the two

    def test_what_is_retried_follows_its_conversation(self):
        job = self._create_job("failed", self.direct_model)
        self._choose(job)
        self.assertEqual((job.state, job.model_id), ("failed", self.direct_model))
        job.with_user(self.user).action_retry()
        self.assertRecordValues(job, [{**self.place, "state": "queued"}])
        self.assertEqual(self._process_queue(self.spare), 1)

    def test_what_is_given_back_follows_its_conversation(self):
        job = self._create_job("queued", self.direct_model)
        claim = self._claim(job)
        self._choose(job)
        self.assertEqual((job.state, job.provider_id), ("running", self.direct))
        self._apply(claim, state="failed", error_type="overloaded", retry_after=60)
        self.assertRecordValues(job, [{**self.place, "state": "queued"}])
        self.assertTrue(job.is_scheduled, "it waits for its time all the same")

    def test_a_draft_asks_the_model_that_will_answer(self):
        thread = self._create_thread(self.direct_model)
        job = self._create_job("queued", thread_id=thread.id, **self.place)
        self.assertEqual((job.provider_id, job.model_id), (self.direct, self.direct_model))

    def test_what_waits_for_its_date_waits_on(self):
        job = self._create_job("queued", self.direct_model, scheduled_at="2030-01-01 00:00:00")
        self._choose(job)
        self.assertEqual((job.provider_id, job.is_scheduled), (self.spare, True))
        self.assertEqual(self._process_queue(self.spare), 0)

    def test_who_asks_for_a_model_of_its_own_keeps_it(self):
        native = self._create_job("queued", self.native_model)
        thread = self._create_thread(self.direct_model)
        silent = self._create_job("queued", thread_id=thread.id, post=False)
        running = self._create_job("running", self.direct_model)
        for job in (native, silent, running):
            before = job.model_id
            self._choose(job)
            self.assertEqual(job.model_id, before)

    def test_a_job_stays_with_its_company(self):
        company = self.env["res.company"].create({"name": "Elsewhere"})
        self.user.company_ids += company
        job = self._create_job("queued", self.direct_model, company_id=company.id)
        self._choose(job)
        self.assertEqual((job.provider_id, job.company_id), (self.spare, company))
