from odoo.exceptions import AccessError

from odoo.addons.llm_generate_job.tests.rights import ROLES, RightsMatrix

from .common import LlmCommon


class TestRightsMatrix(RightsMatrix, LlmCommon):
    addon = "llm"

    def setUp(self):
        super().setUp()
        self._offer("models", lambda _provider, model_id=None: [{"name": "fake-9"}])

    def _wizard(self):
        """Return what the manager opened."""
        env = self.env(user=self.manager.id)
        wizard = env["llm.fetch.models"].create({"provider_id": self.provider.id})
        env["llm.fetch.models.line"].create({
            "wizard_id": wizard.id,
            "name": "fake-8",
            "model_use": "chat",
            "selected": True,
        })
        return wizard

    def _message(self):
        partner = self.env["res.partner"].create({"name": "Somebody"})
        return partner.message_post(body="Internal", subtype_xmlid="mail.mt_note")

    def _sample(self, name):
        wizard = self._wizard()
        provider = {"name": "Q", "service": "fake", "company_id": self.env.company.id}
        model = {"name": "fake-2", "provider_id": self.provider.id}
        line = {"wizard_id": wizard.id, "name": "fake-3", "model_use": "chat"}
        message = self._message()
        about = {"model": message.model, "res_id": message.res_id, "body": "Hello"}
        return {
            "llm.provider": (self._create_provider(), provider, {"name": "R"}),
            "llm.model": (self._create_model(), model, {"name": "fake-4"}),
            "llm.publisher": (
                self.env["llm.publisher"].create({"name": "P"}),
                {"name": "Q"},
                {"name": "R"},
            ),
            "llm.fetch.models": (
                wizard,
                {"provider_id": self.provider.id},
                {"provider_id": self.provider.id},
            ),
            "llm.fetch.models.line": (wizard.line_ids, line, {"model_use": "embedding"}),
            "mail.message": (message, about, {"body": "Changed"}),
        }[name]

    def _call_of(self, method):
        model = method.rpartition(".")[0]
        return (self._wizard() if model == "llm.fetch.models" else self.provider), ()

    def test_nobody_reads_a_message_past_its_rules(self):
        message = self._message()
        for role in ROLES:
            result = self._rpc(role, "mail.message", "to_store_format", message.ids)
            with self.subTest(role=role):
                self.assertIsInstance(result, AccessError)
