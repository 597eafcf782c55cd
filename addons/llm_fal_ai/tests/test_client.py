import time
import tracemalloc
from unittest.mock import patch

import requests

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

    def test_what_fal_names_is_not_called_in_the_own_network(self):
        client = FalClient(None, API_KEY)
        with (
            patch("socket.getaddrinfo", return_value=[(2, 1, 6, "", ("127.0.0.1", 443))]),
            patch("socket.socket.connect", side_effect=AssertionError("connected")),
            patch.object(requests.Session, "send", _send),
            self.assertRaisesRegex(exceptions.ProviderFailedError, "none of the internet"),
        ):
            client.call("GET", "https://inner.fal.run/a/b/requests/1/status")

    def test_a_bomb_is_not_unpacked(self):
        bomb = fake_http.compressed_zeros(50)
        reply = fake_http.Reply(200, bomb, headers={"Content-Encoding": "gzip"})
        error = fake_http.Reply(503, bomb, headers={"Content-Encoding": "gzip"})
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)

        for sent, kind in ((reply, "unreadable"), (error, "overloaded")):
            told = self._refused(lambda handler, _reply, sent=sent: handler.send_reply(sent))
            self.assertEqual(told.error_type, kind)

        self.assertLess(tracemalloc.get_traced_memory()[1], 10_000_000)

    def test_keys_that_drip_or_never_end_are_given_up(self):
        def drip(handler, _reply):
            handler.send_response(200)
            handler.send_header("Content-Length", "1000")
            handler.end_headers()
            for _byte in range(1000):
                handler.wfile.write(b" ")
                handler.wfile.flush()
                time.sleep(0.05)

        def endless(handler, _reply):
            handler.send_reply(fake_http.Reply(200, b" " * 10_000_000))

        for fault in (drip, endless):
            self.remote.fault(fault)
            start = time.monotonic()
            with self.assertRaises(exceptions.GenerationError):
                self.client.fetch_keys(f"{self.remote.url}/.well-known/jwks.json")
            self.assertLess(time.monotonic() - start, 3)

    def test_an_error_of_any_depth_is_told(self):
        for levels in (*range(100, 1000, 50), 5000, 100_000):
            for inner in (b'{"detail":', b'{"detail":[{"msg":', b"["):
                outer = {b"{": b"}", b"[": b"]"}
                ends = b"".join(outer[bytes([byte])] for byte in reversed(inner) if byte in b"{[")
                body = inner * levels + b"1" + ends * levels
                reply = fake_http.Reply(422, body)
                error = self._refused(lambda handler, _reply, sent=reply: handler.send_reply(sent))
                self.assertEqual(error.error_type, "bad_request")
                self.assertLess(len(str(error)), 600)

    def test_an_answer_of_too_many_levels_is_none(self):
        deep = fake_http.Reply(200, b'{"a":' * 100_000)
        error = self._refused(lambda handler, _reply: handler.send_reply(deep))

        self.assertEqual(error.error_type, "unreadable")


def _send(session, request, **kwargs):
    """Send past what Odoo's tests allow: nothing is connected to."""
    kwargs = {name: kwargs.get(name) for name in ("stream", "verify", "cert", "proxies")}
    return session.get_adapter(request.url).send(request, **kwargs)
