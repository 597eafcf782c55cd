from odoo.tests import BaseCase, tagged

from .. import responses
from .common import response


@tagged("post_install", "-at_install")
class TestResponses(BaseCase):
    def test_a_conversation_with_tools_and_images_is_translated(self):
        call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
        image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}

        items = responses.build_input([
            {"role": "system", "content": "Be brief"},
            {"role": "user", "content": [{"type": "text", "text": "What is it?"}, image]},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "3"},
        ])

        self.assertEqual(
            items,
            [
                {"role": "system", "content": "Be brief"},
                {
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "What is it?"},
                        {"type": "input_image", "image_url": "data:image/png;base64,aGk="},
                    ],
                },
                {"type": "function_call", "call_id": "c1", "name": "add", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c1", "output": "3"},
            ],
        )

    def test_parts_of_all_kinds_are_translated(self):
        file = {"filename": "a.pdf", "file_data": "data:application/pdf;base64,aGk="}
        audio = {"data": "aGk=", "format": "wav"}
        text = {"type": "text", "text": "Hi"}

        items = responses.build_input([
            {
                "role": "user",
                "content": [
                    {"type": "file", "file": file},
                    {"type": "input_audio", "input_audio": audio},
                ],
            },
            {"role": "assistant", "content": [text]},
        ])

        self.assertEqual(
            [item["content"] for item in items],
            [
                [
                    {"type": "input_file", **file},
                    {"type": "input_audio", "input_audio": audio},
                ],
                [{"type": "output_text", "text": "Hi"}],
            ],
        )

    def test_each_state_is_told_in_our_words(self):
        too_long = {"incomplete_details": {"reason": "max_output_tokens"}}
        filtered = {"incomplete_details": {"reason": "content_filter"}}
        cases = [
            (response("queued"), "queued", None),
            (response("in_progress"), "running", None),
            (response("completed", "Hi"), "completed", None),
            (response("completed"), "failed", "provider_failed"),
            (response("incomplete", "Hi", **too_long), "completed", None),
            (response("incomplete", **too_long), "failed", "bad_request"),
            (response("incomplete", "H", **filtered), "completed", None),
            (response("incomplete", **filtered), "failed", "content_refused"),
            (response("failed", error={"code": "server_error"}), "failed", "transient"),
            (response("failed", error={"code": "rate_limit_exceeded"}), "failed", "rate_limited"),
            (response("failed", error={"code": "something_new"}), "failed", "provider_failed"),
            (response("failed", error={"code": "image_too_large"}), "failed", "bad_request"),
            (response("cancelled"), "cancelled", None),
        ]
        for given, state, error_type in cases:
            with self.subTest(given):
                result = responses.read_response(given)

                self.assertEqual(result["state"], state)
                self.assertEqual(result.get("error_type"), error_type)
                self.assertEqual(bool(result.get("error_message")), state == "failed")

    def test_how_an_answer_ended_is_told(self):
        refusal = {"type": "message", "content": [{"type": "refusal", "refusal": "I cannot."}]}
        for given, reason in (
            (response("completed", "Hi"), "stop"),
            (response("completed", output=[refusal]), "refusal"),
            (
                response("incomplete", "Hi", incomplete_details={"reason": "max_output_tokens"}),
                "max_output_tokens",
            ),
            (
                response("incomplete", "Hi", incomplete_details={"reason": "content_filter"}),
                "content_filter",
            ),
            (response("in_progress"), None),
        ):
            with self.subTest(given):
                self.assertEqual(responses.read_response(given)["finish_reason"], reason)

    def test_what_runs_is_asked_about_soon_and_kept_ten_minutes(self):
        result = responses.read_response(response("in_progress"))

        self.assertEqual((result["poll_after"], result["expires_in"]), (2.0, 600.0))

    def test_a_refusal_is_the_answer(self):
        refusal = {"type": "message", "content": [{"type": "refusal", "refusal": "I cannot."}]}

        self.assertEqual(responses.read_text(response("completed", output=[refusal])), "I cannot.")
