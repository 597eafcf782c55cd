from odoo.tests import BaseCase, tagged

from odoo.addons.llm_generate_job import exceptions
from odoo.addons.llm_generate_job.tests import fake_http

from ..client import FalClient, TooLargeError
from .common import API_KEY, FakeFal


@tagged("post_install", "-at_install")
class TestClient(BaseCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.remote = FakeFal()
        cls.addClassCleanup(cls.remote.close)

    def setUp(self):
        super().setUp()
        self.remote.reset()
        self.client = FalClient(self.remote.url, API_KEY)

    def _refused(self, *faults):
        self.remote.fault(*faults)
        with self.assertRaises(exceptions.GenerationError) as caught:
            self.client.call("GET", f"{self.remote.url}/a/b/requests/1/status")
        return caught.exception

    def test_only_addresses_of_fal_and_of_the_configured_host_get_the_key(self):
        client = FalClient(None, API_KEY)
        for url in (
            "https://queue.fal.run.evil.example/x",
            "https://evilfal.run/x",
            "http://queue.fal.run/x",
            "https://queue.fal.run@evil.example/x",
            f"{self.remote.url}/x",
            "file:///etc/passwd",
        ):
            with self.subTest(url), self.assertRaises(exceptions.ProviderFailedError):
                client.call("GET", url)
        self.assertFalse(self.remote.requests)

    def test_a_file_is_fetched_over_https_or_from_the_configured_host(self):
        self.assertTrue(self.client.may_follow("https://v3.fal.media/files/a.png"))
        self.assertTrue(self.client.may_follow(f"{self.remote.url}/a.png"))
        for url in ("http://v3.fal.media/a.png", "https:///a.png", "ftp://x/a", "file:///a", "a"):
            with self.subTest(url):
                self.assertFalse(self.client.may_follow(url))

    def test_a_file_is_fetched_without_the_key_and_up_to_a_limit(self):
        url = f"{self.remote.url}/files/cat.png"

        content, content_type = self.client.download(url, 1000)

        self.assertEqual((content[:4], content_type), (b"\x89PNG", "image/png"))
        self.assertNotIn("authorization", self.remote.requests[0].headers)
        with self.assertRaises(TooLargeError):
            self.client.download(url, 10)

    def test_a_redirect_is_not_followed(self):
        away = fake_http.Reply(302, headers={"Location": f"{self.remote.url}/files/cat.png"})

        self._refused(lambda handler, _reply: handler.send_reply(away))

        self.assertEqual(len(self.remote.requests), 1)

    def test_an_error_of_a_model_says_what_is_wrong_where(self):
        detail = [
            {"loc": ["body", "image_size", "width"], "msg": "too large", "type": "value_error"},
            {"msg": "no cats", "type": "value_error"},
        ]
        error = self._refused(
            lambda handler, _reply: handler.send_reply(
                fake_http.json_reply({"detail": detail}, 422)
            )
        )

        self.assertEqual(error.error_type, "bad_request")
        self.assertEqual(str(error), "HTTP 422: image_size.width: too large; no cats")

    def test_refused_content_is_told_apart(self):
        detail = [{"loc": ["body", "prompt"], "msg": "no", "type": "content_policy_violation"}]
        error = self._refused(
            lambda handler, _reply: handler.send_reply(
                fake_http.json_reply({"detail": detail}, 422)
            )
        )

        self.assertEqual(error.error_type, "content_refused")

    def test_a_broken_connection_does_not_tell_the_address(self):
        self.remote.fault(fake_http.reset)
        with self.assertRaises(exceptions.UnknownOutcomeError) as caught:
            self.client.call(
                "POST", f"{self.remote.url}/a/b", {}, {"fal_webhook": "https://x/secret"}
            )

        self.assertIn("127.0.0.1", str(caught.exception))
        self.assertNotIn("secret", repr(caught.exception))
        self.assertIsNone(caught.exception.__cause__)
