import json

from odoo.http import Request
from odoo.tests import HttpCase, tagged

from odoo.addons.llm_generate_job.tests.common import LlmGenerationCommon


@tagged("post_install", "-at_install")
class TestEventStream(LlmGenerationCommon, HttpCase):
    def setUp(self):
        super().setUp()
        self.thread = self._create_thread(self.direct_model)
        self.authenticate(self.user.login, self.user.login)

    def _ask(self, path):
        data = {"thread_id": self.thread.id, "message": "Hi"}
        data["csrf_token"] = Request.csrf_token(self)
        response = self.url_open(path, data=data)
        blocks = response.text.split("\n\n")[:-1]
        return [json.loads(block.removeprefix("data: ")) for block in blocks]

    def test_a_direct_answer_keeps_the_budget(self):
        self._needs_errors_raised()
        self.addCleanup(self.env.registry.clear_cache)
        self.user.company_id.llm_user_daily_jobs = 2
        paths = ("/llm_generate_job/generate", "/llm/thread/generate")
        for path in paths:
            self.assertEqual(self._ask(path)[-1]["type"], "done")
        for path in paths:
            events = self._ask(path)
            self.assertEqual([event["type"] for event in events], ["error"])
            self.assertIn("is 2 jobs a day: 2 are used", events[0]["error"])
        self.assertEqual(len(self.service.calls["chat"]), 2)
