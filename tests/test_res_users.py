from odoo.exceptions import AccessError
from odoo.tests import HttpCase, new_test_user, tagged

from .common import LlmGenerationCommon


@tagged("post_install", "-at_install")
class TestResUsers(LlmGenerationCommon, HttpCase):
    def _session_info(self, login):
        user = self.env["res.users"].search([("login", "=", login)])
        # As after the first page: the route itself may read only.
        self.env["res.users.settings"]._find_or_create_for_user(user)
        self.authenticate(login, login)
        return self.make_jsonrpc_request("/web/session/get_session_info")

    def test_the_web_client_is_told_what_its_user_prefers(self):
        self.assertIs(self._session_info(self.user.login)["llm_generation_notify"], True)
        self.user.llm_generation_notify = False
        self.assertIs(self._session_info(self.user.login)["llm_generation_notify"], False)

    def test_users_choose_for_themselves_only(self):
        self.user.with_user(self.user).llm_generation_notify = False
        self.assertFalse(self.user.llm_generation_notify)
        with self.assertRaises(AccessError):
            self.manager.with_user(self.user).llm_generation_notify = False

    def test_the_preferences_have_it(self):
        view = self.env.ref("base.view_users_form_simple_modif")
        arch = self.env["res.users"].with_user(self.user).get_view(view.id)["arch"]
        self.assertIn('name="llm_generation_notify"', arch)

    def test_a_portal_user_is_told_nothing(self):
        portal = new_test_user(self.env, "generation_portal", "base.group_portal")
        self.assertNotIn("llm_generation_notify", self._session_info(portal.login))
