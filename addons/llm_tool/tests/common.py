from odoo.tests import TransactionCase, new_test_user, tagged


@tagged("post_install", "-at_install")
class LlmToolCommon(TransactionCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.user = new_test_user(cls.env, "tool_user", "base.group_user")
        cls.manager = new_test_user(cls.env, "tool_manager", "llm.group_llm_manager")
        cls.admin = new_test_user(cls.env, "tool_admin", "llm.group_llm_manager,base.group_system")
        cls.partners = cls.env["res.partner"].create([
            {"name": f"Tool Partner {number}", "ref": f"R{number}"} for number in range(3)
        ])

    def _execute(self, tool, user=None, **parameters):
        """Run a tool shipped with the addon."""
        record = self.env.ref(f"llm_tool.llm_tool_{tool}")
        return record.with_user(user or self.user).execute(parameters)
