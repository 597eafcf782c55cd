from ast import literal_eval

from odoo.exceptions import AccessError
from odoo.tests import new_test_user

from .common import LlmGenerationCommon, user_groups
from .rights import has_table

#: What each user of a company chooses from, and is shown.
CHOSEN_FROM = {"llm.model", "llm.provider", "llm.publisher", "llm.tool"}
#: What the pages that no model has ask for first: their own steps, and the figures of all.
ASKED_BY = {
    "llm_first_steps": ("llm.thread", "get_first_steps"),
    "llm_generation_dashboard": ("llm.generation.queue", "get_dashboard"),
}
#: Pages of nobody's jobs.
OF_NOBODY = {"llm_first_steps"}


class TestUserPages(LlmGenerationCommon):
    """A page has an address, whoever sees its menu."""

    def _actions(self):
        """Return the actions of our addons that open a page, by their ids in XML."""
        data = self.env["ir.model.data"].search([
            ("module", "=like", "llm%"),
            ("model", "in", ("ir.actions.act_window", "ir.actions.client")),
        ])
        return {
            one.complete_name: self.env[one.model].browse(one.res_id)
            for one in data
            if has_table(one.module)  # the family's pages are its own
        }

    def _open(self, action, user):
        """Open a page as the web client does; return what is shown of others, or the refusal."""
        name = action._name == "ir.actions.client" and action.tag
        if name in OF_NOBODY:
            return []
        model, method = ASKED_BY[name] if name else (action.res_model, "get_views")
        views = [] if name else [[[(False, mode) for mode in action.view_mode.split(",")]]]
        try:
            model = self.env[model].with_user(user)
            shown = getattr(model, method)(*(views[0] if views else ()))
            return shown["cards"] if name else model.search(self._domain(action))
        except AccessError as refusal:
            return str(refusal)

    def _domain(self, action):
        return literal_eval(action.domain or "[]")

    def test_nobody_reaches_the_page_of_a_company_by_its_address(self):
        self._create_job("completed", user=self.manager)
        self._create_job("failed", user=self.manager)
        user = new_test_user(self.env, "somebody", user_groups(self.env))
        actions = self._actions()
        self.assertIn("llm_generate_job.llm_generation_dashboard_client_action", actions)
        refused = set()
        for name, action in actions.items():
            if action._name == "ir.actions.act_window" and action.res_model in CHOSEN_FROM:
                continue
            with self.subTest(name):
                told = self._open(action, user)
                if isinstance(told, str):
                    refused.add(name)
                    self.assertTrue(told.strip())
                else:
                    self.assertFalse(told)
        pages = ("dashboard_client_action", "queue_action", "runner_action")
        self.assertLessEqual({f"llm_generate_job.llm_generation_{one}" for one in pages}, refused)

    def test_a_manager_opens_each_of_them(self):
        for name, action in self._actions().items():
            if action._name == "ir.actions.act_window" and action.res_model.startswith("res."):
                continue  # who has settings rights
            with self.subTest(name):
                self.assertNotIsInstance(self._open(action, self.manager), str)
