from inspect import getmembers, getsource, isfunction

from odoo.exceptions import AccessError

from odoo.addons.llm_generate_job.tests.rights import ROLES, RightsMatrix

from ..models.llm_provider import LlmProvider
from .common import LlmOpenaiCommon, json_answer


class TestRightsMatrix(RightsMatrix, LlmOpenaiCommon):
    addon = "llm_openai"

    def test_the_service_closes_its_methods_itself(self):
        """Also where `llm_generate_job`, which closes those of all services, is not installed."""
        methods = [
            method
            for name, method in getmembers(LlmProvider, isfunction)
            if name.startswith("openai_")
        ]
        self.assertGreater(len(methods), 3)
        for method in methods:
            with self.subTest(method=method.__name__):
                self.assertIn("@api.private", getsource(method))

    def test_nobody_has_the_server_asked_with_its_key(self):
        calls = {
            "openai_chat": ([{"role": "user", "content": "Hi"}],),
            "openai_generate": ({"prompt": "Hi"},),
            "openai_embedding": (["Hi"],),
            "openai_models": ("../files/abc",),
        }
        for role in ROLES:
            for method, arguments in calls.items():
                self.server.answers[:] = [json_answer({"id": "abc", "data": [], "choices": []})]
                result = self._rpc(role, "llm.provider", method, self.provider.ids, *arguments)
                with self.subTest(role=role, method=method):
                    self.assertIsInstance(result, AccessError)
                    self.assertFalse(self.server.requests)

    def test_who_may_not_read_a_provider_does_not_use_it_nor_read_it_then(self):
        elsewhere = self.env["res.company"].create({"name": "Of another"})
        self.provider.company_id = elsewhere
        model = self.chat_model.with_user(self.manager)
        provider = self.provider.with_user(self.manager)
        uses = {
            "chat": lambda: provider.chat([{"role": "user", "content": "Hi"}]),
            "stream": lambda: list(provider.chat([], stream=True)),
            "generate": lambda: provider.generate({"prompt": "Hi"}),
            "embedding": lambda: provider.embedding(["Hi"]),
            "models": provider.list_models,
            "of a model": lambda: model.chat([]),
            "client": provider._openai_client,
        }
        for name, use in uses.items():
            self.env.flush_all()
            self.env.invalidate_all()
            with self.subTest(use=name):
                with self.assertRaises(AccessError):
                    use()
                with self.assertRaises(AccessError):
                    provider.api_base  # noqa: B018 reading is the test
                self.assertFalse(self.server.requests)
