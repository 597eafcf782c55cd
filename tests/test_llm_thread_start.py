from datetime import timedelta

from odoo import fields

from ..hooks import uninstall_hook
from .common import LlmGenerationCommon


class TestLlmThreadStart(LlmGenerationCommon):
    """Where LLM opens, whom one asks, and the provider of a new conversation."""

    def _threads(self, user=None):
        return self.env["llm.thread"].with_user(user or self.user)

    def _forget(self, *models):
        for model in ("llm.generation.job", "llm.thread", *models):
            self.env[model].with_context(active_test=False).search([]).unlink()

    def test_a_user_without_a_provider_is_told_whom_to_ask(self):
        self._forget()
        self.env["llm.model"].search([]).active = False
        told = self._threads().get_first_steps()
        self.assertIn(self.manager.name, told["ask"])
        self.assertFalse(any(step["can"] for step in told["steps"]))
        self.assertEqual(self._threads().action_open_llm()["tag"], "llm_first_steps")
        elsewhere = self.env["res.company"].create({"name": "Elsewhere"})
        self.manager.write({"company_id": elsewhere.id, "company_ids": [(6, 0, elsewhere.ids)]})
        self.assertNotIn(self.manager.name, self._threads().get_first_steps()["ask"])

    def test_llm_opens_what_can_be_used(self):
        self._forget()
        menu = self.env.ref("llm.menu_llm_root")
        self.assertEqual(menu.action, self.env.ref("llm_generate_job.llm_open_server_action"))
        managers = self._threads(self.manager)
        self.assertEqual(managers.action_open_llm()["tag"], "llm_first_steps")
        # Who has a provider to ask needs no steps; nor does who has asked.
        self.assertNotEqual(self._threads().action_open_llm().get("tag"), "llm_first_steps")
        self._create_thread()
        action = managers.action_open_llm()
        self.assertNotEqual(action.get("tag"), "llm_first_steps")
        self.assertEqual(action["id"], managers._chat_action()["id"])
        run = menu.action.with_user(self.user).run()
        self.assertEqual(run["id"], action["id"])

    def test_the_menu_outlives_the_addon(self):
        uninstall_hook(self.env)
        self.assertFalse(self.env.ref("llm.menu_llm_root").action)

    def test_a_new_conversation_takes_a_provider_that_works(self):
        threads = self._threads()
        Provider = self.env["llm.provider"]
        (Provider.search([]) - self.native - self.direct).active = False
        later = fields.Datetime.now() + timedelta(minutes=5)
        for values in ({"enabled": False}, {"refused_by": "quota"}, {"paused_until": later}):
            for held, other in (
                (self.queue, self.direct_model),
                (self.direct_queue, self.native_model),
            ):
                with self.subTest(values=values, held=held.provider_id.name):
                    before = {name: held[name] for name in values}
                    held.sudo().write(values)
                    got = threads.default_get(["provider_id", "model_id"])
                    self.assertEqual(got["provider_id"], other.provider_id.id)
                    thread = threads.create({"name": "New"})
                    self.assertEqual(thread.model_id, other)
                    held.sudo().write(before)

    def test_what_is_chosen_stays(self):
        self.direct_queue.enabled = False
        threads = self._threads()
        asked = threads.with_context(default_provider_id=self.direct.id)
        self.assertEqual(
            asked.default_get(["provider_id", "model_id"])["provider_id"], self.direct.id
        )
        thread = threads.create({
            "name": "T", "provider_id": self.direct.id, "model_id": self.direct_model.id
        })  # fmt: skip
        self.assertEqual(thread.provider_id, self.direct)

    def test_where_nothing_works_one_may_wait_in_a_queue(self):
        self.env["llm.generation.queue"].search([]).enabled = False
        inherited = self._threads().default_get(["provider_id"]).get("provider_id")
        got = self._threads().default_get(["provider_id", "model_id"])
        self.assertEqual(got.get("provider_id"), inherited)

    def test_a_conversation_with_a_job_is_not_taken_for_an_empty_one(self):
        self._needs(hasattr(self.env["llm.thread"], "_gc_empty"), "that removes empty ones")
        threads = self._create_thread() + self._create_thread()
        threads.name = threads._default_name()
        self._create_job(thread_id=threads[0].id)
        self.env.flush_all()
        self.env.cr.execute(
            "UPDATE llm_thread SET write_date = write_date - interval '2 days' WHERE id IN %s",
            [tuple(threads.ids)],
        )
        threads.invalidate_recordset()
        self.env["llm.thread"]._gc_empty()
        self.assertEqual(threads.exists(), threads[0])
