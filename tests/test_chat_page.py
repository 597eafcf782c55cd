from odoo.tests import HttpCase, tagged
from odoo.tools import mute_logger

from ..exceptions import GenerationError
from .common import TOUR_TIMEOUT, LlmGenerationCommon
from .test_chat_route import LOGGERS

CHAT_ACTION = "llm_thread.chat_client_action"


@tagged("post_install", "-at_install")
class TestChatPage(LlmGenerationCommon, HttpCase):
    """The page where people talk with a model: the family's own, or the conversation of ours."""

    def setUp(self):
        super().setUp()
        self.direct_queue.always_queue = True
        self.thread = self._create_thread(self.direct_model)

    def _tour(self, name):
        chat = self.env["ir.actions.client"].search([("tag", "=", CHAT_ACTION)], limit=1)
        family = f"/odoo/action-{chat.id}?active_id=llm.thread_{self.thread.id}"
        path = family if chat else f"/odoo/llm-threads/{self.thread.id}"
        self.start_tour(path, name, login=self.user.login, timeout=TOUR_TIMEOUT)

    def test_an_answer_comes_through_the_queue(self):
        self._tour("llm_chat_page_answer_tour")

        self.assertRecordValues(
            self.thread.generation_job_ids, [{"state": "completed", "user_id": self.user.id}]
        )

    def test_a_waiting_answer_has_its_place_and_is_cancelled(self):
        self.direct_queue.enabled = False

        self._tour("llm_chat_page_cancel_tour")

        self.assertEqual(self.thread.generation_job_ids.mapped("state"), ["cancelled"])
        self.assertFalse(self.service.calls["chat"])

    def test_who_comes_back_sees_what_waits(self):
        self.direct_queue.enabled = False
        job = self.thread.enqueue_generation("How are you?")

        self._tour("llm_chat_page_return_tour")

        self.assertEqual(job.state, "cancelled")

    def test_an_error_has_its_reason_and_a_retry(self):
        reason = GenerationError("At least one message is required.")
        self.direct_queue.auto_retry_failed = False

        def fail_once():
            del self.service.chunks[0]
            raise reason

        self.service.chunks.insert(0, fail_once)

        with mute_logger(*LOGGERS):
            self._tour("llm_chat_page_error_tour")

        self.assertEqual(self.thread.generation_job_ids.state, "completed")
