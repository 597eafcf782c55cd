from unittest.mock import patch

from odoo.tests import TransactionCase, new_test_user, tagged


@tagged("post_install", "-at_install")
class LlmCommon(TransactionCase):
    """Provider of the service ``fake``, whose methods a test defines with ``_offer``."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.classPatch(
            cls.registry["llm.provider"],
            "_get_available_services",
            lambda self: [("fake", "Fake")],
        )
        cls.provider = cls._create_provider()
        cls.user = new_test_user(cls.env, "llm_user", "base.group_user")
        cls.manager = new_test_user(cls.env, "llm_manager", "llm.group_llm_manager")

    @classmethod
    def _create_provider(cls, **values):
        return cls.env["llm.provider"].create({
            "name": "Fake provider",
            "service": "fake",
            "api_key": "sk-secret",
            **values,
        })

    @classmethod
    def _create_model(cls, name="fake-1", **values):
        return cls.env["llm.model"].create({
            "name": name,
            "provider_id": cls.provider.id,
            **values,
        })

    def _offer(self, method, implementation, model="llm.provider"):
        """Let the fake service offer a method, in this test."""
        patcher = patch.object(self.registry[model], f"fake_{method}", implementation, create=True)
        patcher.start()
        self.addCleanup(patcher.stop)
