from unittest.mock import patch

import psycopg2

from odoo.exceptions import AccessError
from odoo.tests import new_test_user

from odoo.addons.llm_generate_job.const import UNFINISHED
from odoo.addons.llm_generate_job.tests.common import LlmGenerationCommon, posted
from odoo.addons.llm_generate_job.tests.test_source import ANSWERS

LOGGER = "odoo.addons.llm_generate_job_batch.models.llm_generation_engine"


class TestIrActionsServer(LlmGenerationCommon):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.user.group_ids += cls.env.ref("base.group_partner_manager")
        cls.partners = cls.env["res.partner"].create([{"name": "Anna"}, {"name": "Bert"}])
        cls.partner_model = cls.env["ir.model"]._get("res.partner")
        cls.action = cls._create_action()

    @classmethod
    def _create_action(cls, **values):
        return cls.env["ir.actions.server"].create({
            "name": "Describe",
            "state": "llm_generate",
            "model_id": cls.partner_model.id,
            "llm_model_id": cls.native_model.id,
            "llm_prompt": "Who is {{ object.name.upper() }}?",
            **values,
        })

    def _into(self, name):
        field = self.env["ir.model.fields"]._get("res.partner", name)
        self.action.write({"llm_target": "field", "llm_field_id": field.id})

    def _run(self, partners=None, user=None, action=None):
        partners = self.partners if partners is None else partners
        context = {"active_model": "res.partner", "active_ids": partners.ids}
        action = (action or self.action).with_user(user or self.user)
        return action.with_context(**context, active_id=partners[:1].id).run()

    def _jobs(self):
        batches = self.env["llm.generation.batch"].search([("action_id", "=", self.action.id)])
        return batches.job_ids.sorted("id")

    def _answer_all(self, text="A friend", **values):
        self.service.answers["create"] = [posted(text, **values)]
        self._process_queue()

    def test_a_rule_that_may_not_generate_undoes_nothing(self):
        portal = new_test_user(self.env, "portal", "base.group_portal")
        of_portal = self.action.with_user(portal).sudo()  # so automation rules run them
        partners = {"active_model": "res.partner", "active_ids": self.partners.ids}
        of_portal = of_portal.with_context(**partners, active_id=self.partners[0].id)
        with self.assertRaises(AccessError):
            of_portal.run()
        with self.assertLogs(f"{LOGGER.rpartition('.')[0]}.ir_actions_server", "WARNING"):
            of_portal.with_context(__action_done={}).run()
        self.assertFalse(self._jobs())

    def test_each_record_gets_a_job_of_who_runs_the_action(self):
        result = self._run()
        jobs = self._jobs()
        self.assertEqual(
            [job.generation_inputs["prompt"] for job in jobs], ["Who is ANNA?", "Who is BERT?"]
        )
        self.assertEqual(jobs.user_id, self.user)
        self.assertEqual([self.action._llm_record(job).id for job in jobs], self.partners.ids)
        self.assertEqual(result["params"]["message"], "2 answers are being generated.")

    def test_nothing_is_posted_in_a_conversation(self):
        self._run()
        jobs = self._jobs()
        self._answer_all()
        self.assertEqual(jobs.mapped("output_text"), ["A friend"] * 2)
        self.assertEqual((len(jobs.thread_id), jobs.thread_id.active), (1, False))
        domain = [("model", "=", "llm.thread"), ("res_id", "in", jobs.thread_id.ids)]
        self.assertFalse(self.env["mail.message"].search(domain))

    def test_a_service_that_needs_conversations_has_one_for_each_record(self):
        def chat(_provider, messages, model=None, **_kwargs):
            yield {"content": "A friend"}

        self.action.llm_model_id = self.direct_model
        with self._offered(fakedirect_chat=chat):
            self._run()
            self._process_queue(self.direct)
        jobs = self._jobs()
        self.assertEqual(jobs.thread_id.mapped("res_id"), self.partners.ids)
        self.assertEqual(jobs.output_message_id.mapped("llm_role"), ["assistant"] * 2)
        self.assertIn("A friend", self.partners[0].message_ids[0].body)

    def test_an_answer_for_records_of_another_kind_is_written_nowhere(self):
        self._run(self.partners[:1])
        self.action.model_id = self.env["ir.model"]._get("res.country")
        self._answer_all()
        self.assertEqual(self._jobs().state, "completed")
        self.assertFalse(self.action._llm_record(self._jobs()))

    def test_it_may_wait_until_the_provider_is_idle(self):
        self.action.llm_economy = True
        self._run()
        self.assertEqual(self._jobs().mapped("is_economy"), [True, True])

    def test_the_answer_becomes_a_note(self):
        self._run()
        self._answer_all()
        for partner in self.partners:
            note = partner.message_ids[0]
            self.assertIn("A friend", note.body)
            self.assertEqual(note.subtype_id, self.env.ref("mail.mt_note"))
            self.assertEqual(note.author_id, self.env.ref("base.partner_root"))

    def test_the_answer_is_written_to_a_field(self):
        html = '<p dir="auto">A friend</p>'
        for name, expected in (("comment", html), ("function", "A friend")):
            with self.subTest(field=name):
                self._into(name)
                self._run()
                self._answer_all()
                written = [str(value).strip() for value in self.partners.mapped(name)]
                self.assertEqual(written, [expected] * 2)

    def test_a_field_of_text_has_the_answer_as_it_came(self):
        file = self.env["ir.attachment"].with_user(self.user).create({"name": "note.txt"})
        action = self._create_action(
            model_id=self.env["ir.model"]._get_id("ir.attachment"),
            llm_prompt="What is {{ object.name }}?",
            llm_target="field",
            llm_field_id=self.env["ir.model.fields"]._get("ir.attachment", "description").id,
        )
        context = {"active_model": file._name, "active_ids": file.ids, "active_id": file.id}
        for name, text in ANSWERS.items():
            with self.subTest(answer=name):
                action.with_user(self.user).with_context(**context).run()
                self._answer_all(text)
                self.assertEqual(file.description.encode(), text.encode())

    def test_an_answer_that_is_cut_off_or_refused_is_no_value_of_a_field(self):
        for reason in UNFINISHED:
            with self.subTest(reason):
                self._into("comment")
                self._run(self.partners[0])
                self._answer_all("10 mg, but never more than", finish_reason=reason)
                self.assertEqual(self._jobs()[-1].finish_reason, reason)
                self.assertFalse(self.partners[0].comment)
                self.action.llm_target = "note"
                self._run(self.partners[0])
                self._answer_all("10 mg, but never more than", finish_reason=reason)
                note = self.partners[0].message_ids[0]
                self.assertIn("never more than", note.body)
                self.assertIn(self._jobs()[-1]._status_sentence(), note.body)

    def test_it_runs_by_a_scheduled_action_and_from_the_menu(self):
        self.action.create_action()
        self.assertEqual(self.action.binding_model_id, self.partner_model)
        self.env["ir.cron"].create({"ir_actions_server_id": self.action.id, "name": "Nightly"})
        self._run(self.partners[:1], user=self.env.ref("base.user_root"))
        self.assertEqual(self._jobs().user_id, self.env.ref("base.user_root"))

    def test_a_record_that_waits_is_not_asked_for_again(self):
        self._run(self.partners[:1])
        result = self._run()
        self.assertEqual(len(self._jobs()), 2)
        self.assertEqual(result["params"]["message"], "1 answers are being generated.")

    def test_an_answer_sets_off_no_further_generation(self):
        self._into("comment")
        partner_class, action = type(self.env["res.partner"]), self.action
        written = partner_class.write

        def rule(partners, vals):
            result = written(partners, vals)
            context = {"active_model": "res.partner", "active_ids": partners.ids}
            action.with_env(partners.env).with_context(**context).run()
            return result

        self._run(self.partners[:1])
        with self._offered("res.partner", write=rule):
            self._answer_all()
            self.assertTrue(self.partners[0].comment)
            self.assertEqual(len(self._jobs()), 1)
            self.partners[0].with_user(self.user).write({"comment": "By hand"})
        self.assertEqual(len(self._jobs()), 2)

    def test_who_may_not_write_the_record_has_nothing_written(self):
        reader = new_test_user(self.env, "generation_reader", "base.group_user")
        self._into("comment")
        self.action.group_ids = self.env.ref("base.group_user")
        with self.assertRaises(AccessError):
            self._run(user=reader)
        self.assertFalse(self._jobs())

    def test_who_lost_the_right_meanwhile_has_nothing_written(self):
        self._into("comment")
        self._run(self.partners[:1])
        self.user.group_ids -= self.env.ref("base.group_partner_manager")
        with self.assertLogs(LOGGER, "ERROR"):
            self._answer_all()
        self.assertEqual(self._jobs().state, "completed")
        self.assertFalse(self.partners[0].comment)

    def test_a_record_that_somebody_has_locked_is_written_later(self):
        self._run(self.partners[0])
        engine = self.env["llm.generation.engine"]
        engine.env.cr.sets_aside = True
        self.addCleanup(delattr, engine.env.cr, "sets_aside")
        locked = psycopg2.errors.LockNotAvailable()
        store = patch.object(type(self.action), "_store_llm_answer", side_effect=locked)
        with store, self.assertRaises(psycopg2.errors.LockNotAvailable):
            engine._store_answer(self._jobs())
        engine.env.cr.sets_aside = False
        with store, self.assertLogs(LOGGER, "ERROR"):
            engine._store_answer(self._jobs())

    def test_a_record_that_is_gone_costs_nothing_but_its_answer(self):
        self._run(self.partners[:1])
        self.partners[0].unlink()
        self._answer_all()
        self.assertEqual(self._jobs().state, "completed")

    def test_code_in_a_prompt_is_for_editors_of_templates(self):
        Actions = self.env["ir.actions.server"]
        weak = new_test_user(self.env, "generation_weak", "base.group_user")
        action = self.action.with_user(weak)
        with self.assertRaises(AccessError):
            action._check_prompt_author()
        self.action.llm_prompt = "Who is {{ object.name }}?"
        action._check_prompt_author()
        self.assertTrue(Actions.browse(action.id).llm_prompt)

    def test_what_is_missing_is_told_before_it_runs(self):
        self.assertFalse(self.action.warning)
        self.action.llm_target = "field"
        self.assertIn("that can hold the answer", self.action.warning)
        self.action.write({"llm_target": "note", "llm_prompt": False})
        self.assertIn("a prompt", self.action.warning)
        noteless = self._create_action(model_id=self.env["ir.model"]._get("res.country").id)
        self.assertIn("no notes", noteless.warning)
