from odoo.exceptions import AccessError, UserError
from odoo.fields import Command

from ..models.ir_actions_server import TELLING_FIELDS
from .common import LlmToolCommon


class TestServerActionTool(LlmToolCommon):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.tool = cls.env.ref("llm_tool.llm_tool_run_server_action")
        cls.writer = cls._create_user_of("base.group_partner_manager")
        cls.partner_model = cls.env["ir.model"]._get("res.partner")
        cls.action = cls._create_action(code="records.write({'ref': 'done'})")

    @classmethod
    def _create_user_of(cls, group):
        user = cls.user.copy({"login": "tool_writer", "name": "Writer"})
        user.group_ids += cls.env.ref(group)
        return user

    @classmethod
    def _create_action(cls, allow=True, **values):
        action = cls.env["ir.actions.server"].create({
            "name": "Mark as done",
            "model_id": cls.partner_model.id,
            "state": "code",
            **values,
        })
        if allow:
            cls.tool.server_action_ids += action
        return action

    def _call(self, action=None, user=None, **parameters):
        return self._execute(
            "run_server_action",
            user=user or self.writer,
            action_id=(action or self.action).id,
            **parameters,
        )

    def test_an_allowed_action_runs_on_the_records(self):
        answer = self._call(record_ids=self.partners[:2].ids)

        self.assertEqual(
            answer, {"done": True, "action": "Mark as done", "record_ids": self.partners[:2].ids}
        )
        self.assertEqual(self.partners.mapped("ref"), ["done", "done", "R2"])

    def test_the_schema_names_the_allowed_actions(self):
        action = self.tool.input_schema["properties"]["action_id"]

        self.assertEqual(action["enum"], self.action.ids)
        self.assertIn(f"{self.action.id}: Mark as done (res.partner)", action["description"])

    def test_an_action_that_is_not_allowed_does_not_run(self):
        other = self._create_action(allow=False, code="records.write({'ref': 'no'})")

        with self.assertRaisesRegex(UserError, "is not one of"):
            self._call(other, record_ids=self.partners.ids)
        self.tool.input_schema = {"type": "object"}
        with self.assertRaisesRegex(UserError, "An administrator can allow it"):
            self._call(other, record_ids=self.partners.ids)

        self.assertNotIn("no", self.partners.mapped("ref"))

    def test_what_a_tool_tells_of_its_actions_follows_them(self):
        other = self._create_action(name="Archive")
        for told, change in (
            ("Archive", lambda: None),
            ("Delete", lambda: other.write({"name": "Delete"})),
            (None, other.unlink),
        ):
            with self.subTest(told):
                number = other.id
                change()
                schema = str(self.tool.input_schema)
                self.assertEqual((str(number) in schema), bool(told), schema)
                self.assertIn(told or "Mark as done", schema)

    def test_a_user_who_may_not_write_the_records_is_refused(self):
        with self.assertRaises(AccessError):
            self._call(user=self.user, record_ids=self.partners.ids)

        self.assertNotIn("done", self.partners.mapped("ref"))

    def test_a_group_lets_nobody_write_what_they_may_not(self):
        action = self._create_action(
            state="object_write",
            update_path="ref",
            value="written",
            group_ids=[Command.link(self.env.ref("base.group_user").id)],
        )

        with self.assertRaises(AccessError):
            self._call(action, user=self.user, record_ids=self.partners.ids)

        self.assertNotIn("written", self.partners.mapped("ref"))

    def test_an_action_without_records_needs_the_right_to_write_the_model(self):
        action = self._create_action(code="model.search([], limit=1)")

        with self.assertRaises(AccessError):
            self._call(action, user=self.user)

        self.assertTrue(self._call(action)["done"])

    def test_a_failing_action_tells_its_reason_and_not_its_code(self):
        action = self._create_action(code="secret = 1 / 0")

        with self.assertRaisesRegex(UserError, "failed: division by zero") as failure:
            self._call(action)

        self.assertNotIn("secret", str(failure.exception))

    def test_the_groups_of_an_action_are_heeded(self):
        self.action.group_ids = self.env.ref("base.group_system")

        with self.assertRaisesRegex(AccessError, "You may not run"):
            self._call(record_ids=self.partners.ids)

    def test_code_runs_with_the_rights_of_the_user(self):
        action = self._create_action(code="env['ir.config_parameter'].search([])")

        with self.assertRaises(AccessError):
            self._call(action, record_ids=self.partners.ids)

    def test_the_parts_of_a_multi_action_run_with_the_rights_of_the_user(self):
        part = self._create_action(allow=False, code="records.write({'ref': str(env.su)})")
        action = self._create_action(state="multi", child_ids=[Command.link(part.id)])

        self._call(action, record_ids=self.partners[0].ids)

        self.assertEqual(self.partners[0].ref, "False")

    def test_an_action_that_creates_needs_the_right_to_create(self):
        action = self._create_action(
            state="object_create",
            crud_model_id=self.env["ir.model"]._get("res.country").id,
            value="Nowhere",
        )

        with self.assertRaises(AccessError):
            self._call(action, record_ids=self.partners[0].ids)

        self.assertFalse(self.env["res.country"].search([("name", "=", "Nowhere")]))

    def test_an_action_that_writes_a_related_record_needs_the_right_to_write_it(self):
        self.partners[0].country_id = self.env.ref("base.be")
        action = self._create_action(
            state="object_write", update_path="country_id.name", value="Changed"
        )

        with self.assertRaises(AccessError):
            self._call(action, record_ids=self.partners[0].ids)

        self.assertEqual(self.env.ref("base.be").name, "Belgium")

    def test_an_action_that_writes_a_field_runs(self):
        action = self._create_action(state="object_write", update_path="ref", value="written")

        self._call(action, record_ids=self.partners.ids)

        self.assertEqual(set(self.partners.mapped("ref")), {"written"})

    def test_an_action_on_records_asks_for_them(self):
        action = self._create_action(state="object_write", update_path="ref", value="written")

        with self.assertRaisesRegex(UserError, "Give their ids"):
            self._call(action)

    def test_a_missing_record_is_told(self):
        missing = self.partners[0].copy()
        missing.unlink()

        with self.assertRaisesRegex(UserError, f"no record {missing.id} of model “res.partner”"):
            self._call(record_ids=[*self.partners.ids, missing.id])

        self.assertNotIn("done", self.partners.mapped("ref"))

    def test_an_administrator_fills_the_allow_list(self):
        action = self._create_action(allow=False, code="pass")

        with self.assertRaises(AccessError):
            self.tool.with_user(self.manager).server_action_ids += action
        self.tool.with_user(self.admin).server_action_ids += action

        self.assertIn(action.id, self.tool.input_schema["properties"]["action_id"]["enum"])

    def test_a_manager_reads_of_an_action_what_tells_which_it_is(self):
        action = self._create_action(
            state="webhook", webhook_url="https://hooks.example.com/x", value="env.user.name"
        )
        self.manager.group_ids += self.env.ref("base.group_allow_export")
        actions = self.env["ir.actions.server"].with_user(self.manager)
        told = action.with_user(self.manager)

        self.assertEqual(told.display_name, "Mark as done")
        self.assertEqual(
            actions.name_search("Mark as", [("id", "=", action.id)]), [(action.id, told.name)]
        )
        self.assertEqual(set(told.read()[0]), set(actions.fields_get()))
        self.assertEqual(set(actions.fields_get()), TELLING_FIELDS)
        for name in set(actions._fields) - TELLING_FIELDS:
            with self.subTest(name):
                with self.assertRaises(AccessError):
                    told.read([name])
                with self.assertRaises(AccessError):
                    told[name]
        for name in ("webhook_url", "value", "code", "html_value"):
            with self.subTest(name):
                with self.assertRaises(AccessError):
                    actions.search([(name, "ilike", "hooks")])
                with self.assertRaises(AccessError):
                    actions.search([], order=name)
                with self.assertRaises(AccessError):
                    actions._read_group([], [name])
                with self.assertRaises(AccessError):
                    self.tool.with_user(self.manager).search([
                        (f"server_action_ids.{name}", "!=", 1)
                    ])
                with self.assertRaises(AccessError):
                    self.tool.with_user(self.manager).export_data([f"server_action_ids/{name}"])
                specification = {"server_action_ids": {"fields": {name: {}}}}
                with self.assertRaises(AccessError):
                    self.tool.with_user(self.manager).web_read(specification)
                with self.assertRaises(UserError):
                    self._execute(
                        "read_records",
                        user=self.manager,
                        model="ir.actions.server",
                        fields=[name],
                    )

    def test_an_administrator_reads_actions_whole(self):
        action = self._create_action(state="webhook", webhook_url="https://x.example.com")

        self.assertEqual(action.with_user(self.admin).webhook_url, "https://x.example.com")
