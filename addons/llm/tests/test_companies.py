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

    def test_the_key_of_what_is_shared_is_read_by_who_has_settings_rights(self):
        self.shared.api_key = "sk-shared"
        self.own.api_key = "sk-own"
        for user in (self.manager, self.admin):
            user.group_ids += self.env.ref("base.group_allow_export")
        both = self.shared | self.own
        self.env.flush_all()
        spec = {"name": {}, "api_key": {}}
        of_key = [("api_key", "=like", "sk-sh%")]
        ways = {
            "read": lambda env: both.with_env(env).read(["name", "api_key"]),
            "read all": lambda env: both.with_env(env).read(),
            "form": lambda env: self.shared.with_env(env).web_read(spec),
            "list": lambda env: env["llm.provider"].web_search_read([], spec),
            "field": lambda env: both.with_env(env).mapped("api_key"),
            "export": lambda env: both.with_env(env).export_data(["name", "api_key"]),
            "group": lambda env: env["llm.provider"].formatted_read_group([], ["api_key"]),
            "aggregate": lambda env: env["llm.provider"].formatted_read_group(
                [], [], ["api_key:array_agg"]
            ),
            "group of models": lambda env: env["llm.model"].formatted_read_group(
                [], ["provider_id.api_key"]
            ),
            "of a model": lambda env: self.shared_model.with_env(env).web_read({
                "provider_id": {"fields": {"api_key": {}}}
            }),
            "form that is not saved": lambda env: env["llm.model"].onchange(
                {"provider_id": {"id": self.shared.id}},
                [],
                {"provider_id": {"fields": {"api_key": {}}}},
            ),
        }
        for name, way in ways.items():
            for user, may in ((self.manager, False), (self.admin, True)):
                with self.subTest(way=name, user=user.login):
                    told = self._told(way, user)
                    if may:
                        self.assertIn("sk-shared", told)
                    elif not may:
                        self.assertNotIn("sk-shared", told)
        for model, domain in (
            ("llm.provider", of_key),
            ("llm.model", [("provider_id.api_key", "=like", "sk-sh%")]),
            ("llm.model", [("provider_id", "any", of_key)]),
        ):
            with self.subTest(domain=domain), self.assertRaises(AccessError):
                self.env(user=self.manager.id, su=False)[model].search(domain)
        with self.assertRaises(AccessError):
            self.env(user=self.manager.id, su=False)["llm.provider"].search([], order="api_key")

    def _told(self, way, user):
        """Return what a call tells, in words, or that it is refused."""
        self.env.invalidate_all()
        try:
            return repr(way(self.env(user=user.id, su=False)))
        except AccessError as refusal:
            return repr(refusal)

    def test_managers_read_the_keys_of_their_companies(self):
        self.shared.api_key = "sk-shared"
        self.own.api_key = "sk-own"
        env = self.env(user=self.manager.id, su=False)
        self.env.invalidate_all()
        rows = (self.shared | self.own).with_env(env).read(["name", "api_key"])
        self.assertEqual([row["api_key"] for row in rows], [False, "sk-own"])
        self.assertEqual([row["name"] for row in rows], ["Shared", "Own"])
        [form] = self.shared.with_env(env).web_read({"name": {}, "api_key": {}})
        self.assertEqual((form["name"], form["api_key"]), ("Shared", False))
        self.assertEqual(self.own.with_env(env).api_key, "sk-own")
        self.assertIn("api_key", env["llm.provider"].fields_get())
