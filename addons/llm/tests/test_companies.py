from odoo import Command
from odoo.exceptions import AccessError
from odoo.tests import TransactionCase, new_test_user, tagged


@tagged("post_install", "-at_install")
class TestCompanies(TransactionCase):
    """What all companies share is configured by who has settings rights."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.classPatch(
            cls.registry["llm.provider"],
            "_get_available_services",
            lambda self: [("fake", "Fake")],
        )
        cls.manager = new_test_user(cls.env, "companies_manager", "llm.group_llm_manager")
        cls.admin = new_test_user(
            cls.env, "companies_admin", "llm.group_llm_manager,base.group_system"
        )
        cls.shared = cls.env["llm.provider"].create({
            "name": "Shared", "service": "fake", "company_id": False
        })  # fmt: skip
        cls.own = cls.env["llm.provider"].create({"name": "Own", "service": "fake"})
        cls.shared_model, cls.own_model = cls.env["llm.model"].create([
            {"name": "m", "provider_id": provider.id} for provider in (cls.shared, cls.own)
        ])
        cls.publisher = cls.env["llm.publisher"].create({"name": "P"})

    def test_what_is_shared_is_configured_by_who_has_settings_rights(self):
        ways = {
            "address": lambda env: self.shared.with_env(env).write({"api_base": "https://x"}),
            "key": lambda env: self.shared.with_env(env).write({"api_key": "x"}),
            "models": lambda env: self.shared.with_env(env).write({
                "model_ids": [Command.create({"name": "n"})]
            }),
            "model": lambda env: self.shared_model.with_env(env).write({"details": {}}),
            "new model": lambda env: env["llm.model"].create({
                "name": "n",
                "provider_id": self.shared.id,
            }),
            "moved model": lambda env: self.own_model.with_env(env).write({
                "provider_id": self.shared.id
            }),
            "shared": lambda env: self.own.with_env(env).write({"company_id": False}),
            "born shared": lambda env: env["llm.provider"].create({
                "name": "N",
                "service": "fake",
                "company_id": False,
            }),
            "publisher": lambda env: self.publisher.with_env(env).write({"name": "Q"}),
        }
        for name, way in ways.items():
            with self.subTest(way=name):
                with self.assertRaises(AccessError):
                    way(self.env(user=self.manager.id, su=False))
                way(self.env(user=self.admin.id, su=False))

    def test_managers_configure_what_their_company_has(self):
        env = self.env(user=self.manager.id, su=False)
        self.own.with_env(env).write({"api_base": "https://x", "api_key": "x"})
        self.own_model.with_env(env).write({"details": {}})
        made = env["llm.provider"].create({"name": "N", "service": "fake"})
        self.assertEqual(made.company_id, self.manager.company_id)
        self.assertTrue(self.shared.with_env(env).name)
