import base64
import gzip
import socket
from unittest.mock import patch

from odoo.tests import BaseCase, tagged

from odoo.addons.llm_generate_job import exceptions
from odoo.addons.llm_generate_job.tests import fake_http
from odoo.addons.llm_generate_job.tests.fake_http import Reply

from .. import files
from ..client import FalClient
from .common import PNG, FakeFal

SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><script>x()</script></svg>'
HTML = b"<!DOCTYPE html><html><script>x()</script></html>"


@tagged("post_install", "-at_install")
class TestFiles(BaseCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.remote = FakeFal()
        cls.addClassCleanup(cls.remote.close)

    def setUp(self):
        super().setUp()
        self.remote.reset()
        self.client = FalClient(self.remote.url, "")

    def _fetch(self, content=b"", served="", path="/files/x", **entry):
        self.remote.files[path] = Reply(200, content, served)
        (file,) = files.fetch_files(self.client, [{"url": f"{self.remote.url}{path}", **entry}])
        return file

    def test_an_image_is_known_by_its_content(self):
        for served, name in (("image/png", "cat.png"), ("application/octet-stream", "cat.exe")):
            file = self._fetch(PNG, served, path=f"/files/{name}")

            self.assertEqual((file.mimetype, file.content), ("image/png", PNG))
            self.assertEqual(file.name, "cat.png")

    def test_what_a_browser_would_run_is_kept_as_a_download(self):
        for content, served, entry in (
            (SVG, "image/png", {}),
            (SVG, "image/svg+xml", {}),
            (HTML, "image/png", {}),
            (HTML, "video/mp4", {}),
            (HTML, "text/html; charset=utf-8", {}),
            (HTML, "Text/HTML", {}),
            (SVG, "text/plain", {}),
            (b"x", "image/svg+xml", {}),
            (b"x", "video/mp4", {"content_type": "text/html"}),
            (b"x", "video/mp4", {"content_type": " TEXT/HTML ;x=y"}),
            (b"x", "application/xhtml+xml", {}),
            (b"x", "model/x3d+xml", {}),
            (b"x", "text/javascript", {}),
            (b"x", "application/wasm", {}),
            (b"%PDF-1.4", "application/pdf", {}),
            (b"%PDF-1.4", "text/plain", {}),
            (b"plain", "image/png", {}),
            (b"x", "application/x-msdownload", {}),
            (b"x", "video/../../html", {}),
            (b"x", "video/mp4, text/html", {}),
            (b"x", "nothing", {}),
            (b"x", "", {}),
        ):
            with self.subTest((content, served, entry)):
                file = self._fetch(content, served, **entry)

                self.assertEqual((file.reason, file.mimetype), ("", files.DOWNLOAD))
                self.assertEqual(file.content, content)

    def test_nothing_is_no_file(self):
        self.assertEqual(self._fetch(b"", "video/mp4").reason, files.EMPTY)

    def test_other_media_are_taken_as_declared(self):
        for mimetype in ("video/mp4", "audio/mpeg", "model/gltf-binary", "text/plain"):
            for declared in (mimetype, f" {mimetype.upper()} ; charset=utf-8"):
                self.assertEqual(self._fetch(b"\x00\x01data", declared).mimetype, mimetype)
                file = self._fetch(b"\x00\x01data", "text/html", content_type=declared)
                self.assertEqual(file.mimetype, mimetype)

    def test_a_name_has_no_path_and_an_end_that_fits(self):
        cases = {
            "../../etc/passwd": "passwd.png",
            "C:\\temp\\cat.png": "cat.png",
            "x" * 300 + ".png": "x" * 80 + ".png",
        }
        for given, name in cases.items():
            self.assertEqual(self._fetch(PNG, file_name=given).name, name)
        self.assertEqual(self._fetch(PNG, path="/files/%2Fetc%2Fevil").name, "evil.png")

    def test_a_file_that_is_too_large_is_left_where_it_is(self):
        with patch.object(files, "FILE_LIMIT", 20):
            file = self._fetch(PNG)
            inline = "data:image/png;base64," + base64.b64encode(PNG).decode()
            (other,) = files.fetch_files(self.client, [{"url": inline}])

        self.assertEqual((file.reason, file.url), (files.TOO_LARGE, f"{self.remote.url}/files/x"))
        self.assertEqual((other.reason, other.url), (files.TOO_LARGE, ""))

    def test_all_files_together_have_a_limit(self):
        self.remote.files["/files/x"] = Reply(200, PNG, "image/png")
        found = [{"url": f"{self.remote.url}/files/x"}] * 3
        with patch.object(files, "TOTAL_LIMIT", len(PNG) * 2):
            reasons = [file.reason for file in files.fetch_files(self.client, found)]

        self.assertEqual(reasons, ["", "", files.TOO_LARGE])

    def test_an_inline_file_is_decoded(self):
        url = "data:image/png;base64," + base64.b64encode(PNG).decode()

        (file,) = files.fetch_files(self.client, [{"url": url}])

        self.assertEqual((file.content, file.mimetype, file.url), (PNG, "image/png", ""))
        self.assertEqual(file.name, "file_1.png")

    def test_an_address_that_may_not_be_followed_is_not(self):
        for url in ("http://10.0.0.1/x.png", "file:///etc/passwd", "javascript:x()"):
            (file,) = files.fetch_files(self.client, [{"url": url}])

            self.assertEqual((file.reason, file.url), (files.WRONG_ADDRESS, ""))

    def test_a_file_that_is_gone_is_said_and_one_out_of_reach_is_asked_for_again(self):
        self.remote.fault(fake_http.error("bad_request"))
        self.assertEqual(self._fetch(PNG).reason, files.GONE)

        self.remote.fault(fake_http.error("overloaded"))
        with self.assertRaises(exceptions.OverloadedError):
            self._fetch(PNG)

    def test_a_file_of_the_own_network_is_not_fetched(self):
        client = FalClient(None, "")
        port = self.remote.server.server_port
        for host in ("127.0.0.1", "localhost"):
            url = f"https://{host}:{port}/files/cat.png"
            with patch.object(socket.socket, "connect", side_effect=AssertionError("connected")):
                (file,) = files.fetch_files(client, [{"url": url}])

            self.assertEqual((file.reason, file.url), (files.WRONG_ADDRESS, ""))
        self.assertFalse(self.remote.requests)

    def test_the_last_time_the_answer_comes_without_what_cannot_be_had(self):
        self.remote.files["/files/x"] = Reply(200, PNG, "image/png")
        url = f"{self.remote.url}/files/x"
        self.remote.fault(fake_http.reset)

        lost, got = files.fetch_files(self.client, [{"url": url}] * 2, is_last=True)

        self.assertEqual((lost.reason, lost.url), (files.OUT_OF_REACH, url))
        self.assertEqual(got.content, PNG)

    def test_a_compressed_file_is_not_unpacked(self):
        bomb = gzip.compress(bytes(1_000_000))
        self.remote.files["/files/x"] = Reply(
            200, bomb, "image/png", headers={"Content-Encoding": "gzip"}
        )
        with self.assertRaises(exceptions.UnknownOutcomeError):
            files.fetch_files(self.client, [{"url": f"{self.remote.url}/files/x"}])
