from odoo.tests import HttpCase, new_test_user, tagged

from odoo.addons.llm_generate_job.tests.rights import RightsMatrix, RightsRoutes

from .common import LlmThreadCommon, words


class ThreadRights(LlmThreadCommon):
    addon = "llm_thread"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.manager = new_test_user(cls.env, "matrix_manager", "llm.group_llm_manager")
        cls.thread.message_post(body="Hi", llm_role="user")


class TestRightsMatrix(RightsMatrix, ThreadRights):
    def _sample(self, name):
        if name == "mail.message":
            message = self._messages()
            about = {"model": "llm.thread", "res_id": self.thread.id, "body": "Hello"}
            return message, about, {"body": "Changed"}
        if name == "res.users":
            return self.user, {"name": "U", "login": "matrix_new"}, {"login": "matrix_changed"}
        if name != "llm.thread":
            raise KeyError(name)
        values = {"name": "T", "user_id": self.user.id, "provider_id": self.provider.id}
        return self._create_thread(), values, {"name": "Mine"}

    def _call_of(self, method):
        return self.thread, ()

    def _records_with_mail(self):
        return (self.thread,)


@tagged("post_install", "-at_install")
class TestRightsRoutes(RightsRoutes, ThreadRights, HttpCase):
    def _request_of(self, route):
        if route != "/llm/thread/generate":
            raise KeyError(route)
        self.answers[:] = [words("Hello")]
        return route, {"thread_id": self._create_thread().id, "message": "Hi"}
