from odoo.tests import BaseCase, tagged

from ..protocol.http_errors import traceback_of
from ..protocol.sanitize import Chunks, redact, sanitize_json
from .test_secrets import KEYS

#: What looks like a credential, and what has to remain of the sentence around it.
LOOKALIKES = {
    "Authorization: Bearer abc.DEF-123": "Authorization: ",
    "authorization: Basic dXNlcjpwYXNzd29yZA==": "authorization: ",
    '{"Authorization": "Key 1234:abcdef"}': '{"Authorization": ',
    "Incorrect API key provided: sk-proj-abcdef123456.": "Incorrect API key provided: ",
    "x-api-key: 8f14e45fceea167a": "x-api-key: ",
    '{"api_key": "8f14e45fceea167a"}': '{"api_key": ',
    "https://host/v1?key=8f14e45fceea167a&x=1": "https://host/v1?key=",
    "https://host/v1?access_token=8f14e45fceea167a": "https://host/v1?access_token=",
    "https://user:8f14e45fceea167a@host/v1 is down": "host/v1 is down",
    "token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl9 expired": "expired",
    "AKIAIOSFODNN7EXAMPLE may not": "may not",
    "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG": "aws_secret_access_key",
    "AIzaSyA-1234567890abcdefg is wrong": "is wrong",
    "ghp_1234567890abcdef, hf_1234567890ab, gsk_1234567890": ", ",
    "sk-a1b2c3-d4 and hf_AbCdEfGhIjKlMnOpQrStUvWxYz are wrong": " are wrong",
    "Incorrect API key provided: sk-proj-****************wxyz.": "Incorrect API key provided: ",
    "fal_ai.sk-proj-abcdef123456 is wrong": " is wrong",
    "no answer from https://us.example/llm_generate_job/webhook/7/8f14e45fceea167a": "webhook/7/",
}
SECRETS = (
    "DEF-123", "dXNlcjpwYXNzd29yZA", "1234:abcdef", "abcdef123456", "8f14e45fceea167a",
    "eyJhbGciOiJIUzI1NiJ9", "c2lnbmF0dXJl9", "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI",
    "AIzaSyA", "1234567890", "a1b2c3", "AbCdEfGh", "wxyz",
)  # fmt: skip
#: As PostgreSQL says it: what is told, and what has the row.
REFUSED_ROWS = {
    "violates": "DETAIL:  Failing row contains (my prompt,\n\n\tits end).",
    "invalid input": "LINE 1: INSERT INTO a VALUES ('my prompt, its end')\n        ^",
    "out of range": "CONTEXT:  unnamed parameter $1 = 'my prompt, its end'",
    "no such function": "QUERY:  SELECT f('my prompt, its end')",
}
HARMLESS = (
    "in fal_ai_create_generation_job, in self.fal_ai_check_generation_job_status",
    "key_model_access_denied: The key has no access to the model.",
    "AttributeError: hf_hub_download, pk_columns, sk_buff_alloc, key_error_handler",
    "gsk-model-not-found, xai-quota_exceeded, hf-inference.endpoint",
    "The bearer token is missing.",
    "Basic functionality is missing.",
    "The token limit of 4096 was reached; the key is to ask for less.",
    "https://queue.fal.run/fal-ai/flux/requests/7/status",
    "Missing key: prompt",
)


@tagged("post_install", "-at_install")
class TestScrub(BaseCase):
    def test_what_looks_like_a_credential_is_hidden(self):
        for text, rest in LOOKALIKES.items():
            with self.subTest(text):
                redacted = redact(text)
                self.assertIn("[hidden]", redacted)
                self.assertIn(rest, redacted)
                for secret in SECRETS:
                    self.assertNotIn(secret, redacted)

    def test_what_does_not_is_left_alone(self):
        for text in HARMLESS:
            with self.subTest(text):
                self.assertEqual(redact(text), text)

    def test_the_beginning_of_a_key_is_hidden_where_a_text_was_cut(self):
        for key in KEYS:
            for size in range(6, len(key)):
                with self.subTest(key=key, size=size):
                    self.assertNotIn(key[:6], redact(f"HTTP 401: wrong: {key[:size]}", key))

    def test_json_loses_what_stands_under_the_name_of_a_credential(self):
        data = {"headers": [{"X-API-Key": "k", "openai-api-key": "k", "Authorization": "k"}]}
        self.assertNotIn("'k'", repr(sanitize_json(data, hides_names=True)))
        data = {"next_page_token": "p", "key": "cache-7", "input": "Bearer of bad news"}
        self.assertEqual(sanitize_json(data, hides_names=True), data)

    def test_a_key_that_comes_in_pieces_is_hidden(self):
        for key in KEYS:
            for size in range(1, len(key) + 2):
                text = f"Your key is {key}, and {key[:8]} is not."
                pieces = [text[i : i + size] for i in range(0, len(text), size)]
                chunks = Chunks(iter([{"content": piece} for piece in pieces]), lambda: key)  # noqa: B023
                said = "".join(chunk["content"] for chunk in chunks.run() if "content" in chunk)
                with self.subTest(key=key, size=size):
                    self.assertEqual(said, text.replace(key, "[hidden]"))

    def test_the_log_does_not_tell_the_row_that_was_refused(self):
        for sentence, row in REFUSED_ROWS.items():
            error = RuntimeError(f"Bearer {KEYS[0]}")
            error.__cause__ = ValueError(f"{sentence}\n{row}")
            text = traceback_of(error, KEYS[0])
            with self.subTest(sentence):
                self.assertNotIn("my prompt", text)
                self.assertNotIn("its end", text)
                self.assertNotIn(KEYS[0], text)
                self.assertIn("RuntimeError: [hidden]", text)
                self.assertIn(f"ValueError: {sentence}", text)
