import contextlib
import datetime
import ipaddress
import socket
import ssl
import tempfile
import threading
from pathlib import Path
from unittest.mock import patch

import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from odoo.tests import BaseCase, tagged

from ..protocol.bounded_http import NotPublicError, PublicAdapter, is_public
from .fake_http import FakeHttpService, Reply

PUBLIC = "93.184.215.14"
NOT_PUBLIC = (
    "127.0.0.1",
    "127.9.9.9",
    str(ipaddress.IPv4Address(0)),
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2002:a00:1::1",
    "2001:0:7f00:1::",
    "2001:db8::1",
    "fe80::1",
    "fe80::1%lo",
    "fec0::1",
    "fd00:ec2::254",
    "ff02::1",
)


def names(**table):
    """Return a `getaddrinfo` that knows these names; lists are what it says in turn."""

    def getaddrinfo(host, port, *_args, **_kwargs):
        known = table.get(host.replace(".", "_"), host)
        known = known.pop(0) if isinstance(known, list) and len(known) > 1 else known
        found = [known] if isinstance(known, str) else list(known)
        family = {True: socket.AF_INET6, False: socket.AF_INET}
        return [(family[":" in one], socket.SOCK_STREAM, 6, "", (one, port)) for one in found]

    return getaddrinfo


class FakeFiles(FakeHttpService):
    def answer(self, request):
        return Reply(200, b"inside", "text/plain")


@tagged("post_install", "-at_install")
class TestPublicAddresses(BaseCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.remote = FakeFiles()
        cls.addClassCleanup(cls.remote.close)
        cls.port = cls.remote.server.server_port

    def setUp(self):
        super().setUp()
        self.remote.reset()
        self.adapter = PublicAdapter((2, 2))
        self.addCleanup(self.adapter.close)

    def _get(self, url, **kwargs):
        # Past the session, in which Odoo's tests let nothing but loopback through.
        return self.adapter.send(requests.Request("GET", url).prepare(), **kwargs)

    @contextlib.contextmanager
    def _names(self, **table):
        with patch.object(socket, "getaddrinfo", names(**table)):
            yield

    @contextlib.contextmanager
    def _connections(self):
        """Note what is connected to, and connect to the service in its place."""
        seen, real = [], socket.socket.connect

        def connect(own, address):
            seen.append(address[:2])
            return real(own, ("127.0.0.1", self.port))

        with patch.object(socket.socket, "connect", connect):
            yield seen

    def test_addresses_are_judged(self):
        for address in NOT_PUBLIC:
            with self.subTest(address):
                self.assertFalse(is_public(address))
        for address in (PUBLIC, "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1"):
            with self.subTest(address):
                self.assertTrue(is_public(address))

    def test_nothing_of_the_own_network_is_connected_to(self):
        inner = names(inner_example_com="127.0.0.1")
        for scheme in ("http", "https"):
            for host in (
                "127.0.0.1",
                "localhost",
                "[::1]",
                "[::ffff:127.0.0.1]",
                "2130706433",
                "127.1",
                "inner.example.com",
            ):
                getaddrinfo = inner if host == "inner.example.com" else socket.getaddrinfo
                with (
                    self.subTest(f"{scheme} {host}"),
                    patch.object(socket, "getaddrinfo", getaddrinfo),
                    self._connections() as seen,
                    self.assertRaises(NotPublicError),
                ):
                    self._get(f"{scheme}://{host}:{self.port}/x")
                self.assertFalse(seen)

    def test_a_name_is_resolved_once(self):
        answers = [PUBLIC, "127.0.0.1"]
        with self._names(files_example_com=answers), self._connections() as seen:
            response = self._get(f"http://files.example.com:{self.port}/x")

        self.assertEqual(response.content, b"inside")
        self.assertEqual(seen, [(PUBLIC, self.port)])
        self.assertEqual(self.remote.requests[0].headers["host"], f"files.example.com:{self.port}")
        self.assertEqual(answers, ["127.0.0.1"])

    def test_each_connection_is_judged_again(self):
        with self._names(files_example_com=[PUBLIC, "127.0.0.1"]):
            with self._connections():
                self._get(f"http://files.example.com:{self.port}/x", stream=False)
            self.adapter.poolmanager.clear()
            with self.assertRaises(NotPublicError):
                self._get(f"http://files.example.com:{self.port}/x")

    def test_of_several_addresses_the_public_ones_are_tried(self):
        found = ("10.0.0.1", *(f"93.184.215.{number}" for number in range(9)))
        seen = []

        def connect(_own, address):
            seen.append(address[0])
            raise ConnectionRefusedError

        with (
            self._names(files_example_com=found),
            patch.object(socket.socket, "connect", connect),
            self.assertRaises(requests.ConnectionError),
        ):
            self._get("http://files.example.com/x")

        self.assertEqual(seen, [f"93.184.215.{number}" for number in range(4)])

    def test_no_proxy_resolves_the_name_in_our_place(self):
        proxies = dict.fromkeys(("http", "https"), self.remote.url)
        for scheme in proxies:
            with self.assertRaises(NotPublicError):
                self._get(f"{scheme}://localhost:{self.port}/x", proxies=proxies)
        self.assertFalse(self.remote.requests)

    def test_a_name_that_is_not_known_is_no_connection(self):
        with (
            patch.object(socket, "getaddrinfo", side_effect=socket.gaierror(-2, "unknown")),
            self.assertRaises(requests.ConnectionError),
        ):
            self._get("https://files.example.com/x")
        with self.assertRaises((NotPublicError, requests.RequestException)):
            self._get(f"https://{'a' * 70}.example.com/x")

    def test_the_certificate_has_to_be_that_of_the_name(self):
        with tempfile.TemporaryDirectory() as folder, self._tls(Path(folder)) as (port, ca):
            self.port = port
            with (
                self._names(files_example_com=PUBLIC, other_example_com=PUBLIC),
                self._connections() as seen,
            ):
                response = self._get("https://files.example.com/x", verify=str(ca))
                with self.assertRaises(requests.exceptions.SSLError):
                    self._get("https://other.example.com/x", verify=str(ca))
                with self.assertRaises(requests.exceptions.SSLError):
                    self._get("https://files.example.com/x", verify=True)

        self.assertEqual(response.content, b"ok")
        self.assertEqual(set(seen), {(PUBLIC, 443)})

    @contextlib.contextmanager
    def _tls(self, folder):
        """Serve over TLS with a certificate of files.example.com."""
        certificate = _write_certificate(folder, "files.example.com")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        asked = []
        context.sni_callback = lambda _socket, name, _context: asked.append(name)
        with socket.create_server(("127.0.0.1", 0)) as server:
            thread = threading.Thread(target=_answer_all, args=(server, context), daemon=True)
            thread.start()
            try:
                yield server.getsockname()[1], certificate
            finally:
                server.shutdown(socket.SHUT_RDWR)
                thread.join(5)
            self.assertEqual(asked[0], "files.example.com")


def _answer_all(server, context):
    while True:
        try:
            raw, _address = server.accept()
        except OSError:
            return
        with raw, contextlib.suppress(OSError), context.wrap_socket(raw, server_side=True) as one:
            one.recv(65536)
            one.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")


def _write_certificate(folder, name):
    """Return a file with a new key and its own certificate of a name."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509
        .CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path
