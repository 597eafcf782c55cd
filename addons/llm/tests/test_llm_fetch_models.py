from unittest.mock import patch

from odoo.exceptions import AccessError, UserError
from odoo.tests import Form

from ..wizards import llm_fetch_models
from .common import LlmCommon


class TestLlmFetchModels(LlmCommon):
    def setUp(self):
        super().setUp()
        self._offer(
            "models",
            lambda provider, model_id: [
                {"name": "new-embed", "details": {"size": 1}},
                {"name": "known", "details": {"size": 2}},
                {"name": "changed", "details": {"size": 3}},
            ],
        )
        self.known = self._create_model("known", details={"size": 2})
        self.changed = self._create_model("changed", details={"size": 0}, model_use="completion")

    def _fetch(self):
        action = self.provider.with_user(self.manager).action_fetch_models()
        return self.env[action["res_model"]].with_user(self.manager).browse(action["res_id"])

    def test_the_wizard_tells_new_changed_and_known_models_apart(self):
        wizard = self._fetch()

        self.assertRecordValues(
            wizard.line_ids,
            [
                {
                    "name": "changed",
                    "status": "changed",
                    "selected": True,
                    "model_use": "completion",
                },
                {"name": "known", "status": "known", "selected": False, "model_use": "chat"},
                {"name": "new-embed", "status": "new", "selected": True, "model_use": "embedding"},
            ],
        )

    def test_a_list_without_an_end_is_cut(self):
        self._offer(
            "models", lambda provider, model_id: [{"name": f"m{number:02}"} for number in range(90)]
        )
        with patch.object(llm_fetch_models, "MOST_MODELS", 3):
            wizard = self._fetch()

        self.assertEqual(wizard.line_ids.mapped("name"), ["m00", "m01", "m02"])

    def test_selected_models_are_created_and_updated(self):
        self._fetch().action_apply()

        created = self.provider.model_ids - self.known - self.changed
        self.assertRecordValues(
            created, [{"name": "new-embed", "model_use": "embedding", "details": {"size": 1}}]
        )
        self.assertEqual(self.changed.details, {"size": 3})

    def test_the_use_can_be_corrected_before_a_model_is_added(self):
        wizard = self._fetch()
        with Form(wizard) as form, form.line_ids.edit(2) as line:
            line.model_use = "generation"

        wizard.action_apply()

        created = self.provider.model_ids.filtered(lambda model: model.name == "new-embed")
        self.assertEqual(created.model_use, "generation")

    def test_a_second_fetch_adds_nothing_twice(self):
        self._fetch().action_apply()
        names = self.provider.model_ids.mapped("name")

        wizard = self._fetch()

        self.assertEqual(set(wizard.line_ids.mapped("status")), {"known"})
        self.assertCountEqual(names, ["known", "changed", "new-embed"])
        with self.assertRaisesRegex(UserError, "Select at least one"):
            wizard.action_apply()

    def test_an_archived_model_is_not_added_again(self):
        self.known.active = False

        line = self._fetch().line_ids.filtered(lambda line: line.name == "known")

        self.assertEqual(line.model_id, self.known)

    def test_a_service_without_a_list_says_to_add_models_by_hand(self):
        self._offer("models", None)

        with self.assertRaisesRegex(UserError, "by hand"):
            self._fetch()

    def test_an_empty_list_is_told(self):
        self._offer("models", lambda provider, model_id: [])

        with self.assertRaisesRegex(UserError, "serves no model"):
            self._fetch()

    def test_only_managers_fetch_models(self):
        with self.assertRaises(AccessError):
            self.provider.with_user(self.user).action_fetch_models()

    def test_no_wizard_is_made_of_what_its_maker_may_not_read(self):
        elsewhere = self.env["res.company"].create({"name": "Elsewhere"})
        foreign = self._create_provider(name="Foreign", company_id=elsewhere.id)
        model = self._create_model("foreign", provider_id=foreign.id)
        wizards = self.env["llm.fetch.models"].with_user(self.manager)
        wizard = wizards.create({"provider_id": self.provider.id})
        line = {"name": "n", "model_use": "chat", "model_id": model.id}
        lines = wizards.line_ids
        own_line = lines.create({**line, "model_id": self.known.id, "wizard_id": wizard.id})
        ways = {
            "create": lambda: wizards.create({"provider_id": foreign.id}),
            "default": lambda: wizards.with_context(default_provider_id=foreign.id).create({}),
            "write": lambda: wizard.write({"provider_id": foreign.id}),
            "line": lambda: lines.create({**line, "wizard_id": wizard.id}),
            "line of wizard": lambda: wizard.write({"line_ids": [(0, 0, line)]}),
            "written line": lambda: own_line.write({"model_id": model.id}),
            "form": lambda: wizards.onchange(
                {"provider_id": foreign.id},
                ["provider_id"],
                {"provider_id": {"fields": {"display_name": {}}}},
            ),
            "form of a line": lambda: wizards.onchange(
                {"line_ids": [[0, "virtual_1", {"model_id": model.id}]]},
                ["line_ids"],
                {"line_ids": {"fields": {"model_id": {}}}},
            ),
        }
        for name, way in ways.items():
            with self.subTest(way=name), self.assertRaises(AccessError):
                way()
