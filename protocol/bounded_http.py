"""What a provider sends over HTTP, read with a bound on its bytes, its values, and its time."""

import contextlib
import io
import ipaddress
import json
import logging
import socket
import threading
import time
from collections import Counter
from contextvars import ContextVar
from urllib.parse import quote, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ReadTimeoutError

from ..exceptions import BadRequestError

_logger = logging.getLogger(__name__)

#: Bytes of an answer in JSON, and of the body of an error.
JSON_LIMIT = 20_000_000
ERROR_LIMIT = 1_000_000
#: Bytes of one of many answers that come as lines.
LINE_LIMIT = 4_000_000
#: Values of an answer: in memory each is up to a hundred times as large as it was when it was sent.
VALUES_LIMIT = 1_000_000
#: Seconds from the beginning of an answer to its end, and for the body of an error.
BODY_SECONDS = 600
ERROR_SECONDS = 10
#: Seconds from the first to the last of many lines, each of which is stored as it comes.
LINES_SECONDS = 3600
CHUNK = 64 * 1024
#: Characters that are told of something that is no answer.
EXCERPT = 100
#: Bytes of all answers that a process reads at once, and seconds that one waits for its share.
MEMORY_LIMIT = 256 * 1024 * 1024
MEMORY_PATIENCE = 30.0
#: Bytes that a value of JSON takes, about.
VALUE_SIZE = 64
LEFT_OUT = "%s lines of %s are left out: they are too long, or no objects of JSON."
COMPRESSED = "%s compressed its answer though it was asked not to."
#: What is sent with each request. Compressed, a small answer becomes a thousand times as large:
#: nobody who asks for none has to decode one.
HEADERS = {"Accept-Encoding": "identity"}


class UnreadableError(requests.ConnectionError):
    """An answer is not what it should be: the work may have been done all the same."""


class NoRoomError(requests.ConnectionError):
    """There is no memory for an answer just now."""


class TooLargeError(UnreadableError):
    """An answer is larger than anybody needs."""


# === HANGING UP ===
# A call can be hung up on from its first byte on: who may do so knows each connection as soon as
# there is one.

_on_connection = ContextVar("llm_generate_job.on_connection", default=None)


@contextlib.contextmanager
def hung_up_by(on_connection):
    """Tell a callable of each `Connection` that this thread's clients open; None tells nobody."""
    token = _on_connection.set(on_connection)
    try:
        yield
    finally:
        _on_connection.reset(token)


class Connection:
    """An open connection, which any thread may close."""

    def __init__(self, sock):
        self._socket = sock

    def close(self):
        """End the connection, and wake the thread that reads or writes."""
        # Not that of an SSL socket: it would let go of the encryption first.
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class _HeardConnection:
    """What a connection of urllib3 becomes of which others know."""

    def connect(self):
        result = super().connect()
        if on_connection := _on_connection.get():
            on_connection(Connection(self.sock))
        return result


def _pool_classes(*mixins):
    pools = {}
    for scheme, pool in (("http", HTTPConnectionPool), ("https", HTTPSConnectionPool)):
        heard = type("HeardConnection", (*mixins, _HeardConnection, pool.ConnectionCls), {})
        pools[scheme] = type("HeardPool", (pool,), {"ConnectionCls": heard})
    return pools


class TimeoutAdapter(HTTPAdapter):
    """Gives every request its two limits; Odoo's tests accept no pair as a request's `timeout`.

    Its connections can be hung up on, see `hung_up_by()`.
    """

    POOL_CLASSES = _pool_classes()

    def __init__(self, timeout):
        """Prepare an adapter.

        :param timeout: seconds, or a pair of seconds `(connect, read)`
        """
        self.timeout = timeout
        super().__init__()

    def init_poolmanager(self, *args, **kwargs):
        result = super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self.POOL_CLASSES
        return result

    def proxy_manager_for(self, *args, **kwargs):
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = self.POOL_CLASSES
        return manager

    def send(self, request, timeout=None, **kwargs):
        return super().send(request, timeout=timeout or self.timeout, **kwargs)


def request_json(method, url, *, timeout, headers=None, limit=JSON_LIMIT, **kwargs):
    """Return the JSON object with which an address answers; redirects are not followed.

    :param timeout: seconds, or a pair of seconds `(connect, read)`
    :param int limit: bytes of the answer
    :param kwargs: as of `requests.request()`
    :raise requests.HTTPError: for a status of 300 or more, with the beginning of its body
    :raise UnreadableError: for an answer that is compressed, too large, or no JSON object
    :raise requests.RequestException: when there is no answer
    """
    with _answering(method, url, timeout, headers, kwargs) as response:
        return read_json(response, limit)


def request_lines(method, url, *, timeout, headers=None, limit=LINE_LIMIT, **kwargs):
    """Yield the lines with which an address answers, each an object of JSON, as they come.

    One that is too long, or no object of JSON, holds up no other: it is left out, and logged.

    :param int limit: bytes of a line; there may be any number of them
    :raise UnreadableError: where there are lines and none can be read, or the last one breaks off
    :raise requests.RequestException: see `request_json()`
    """
    with _answering(method, url, timeout, headers, kwargs) as response:
        if _is_compressed(response):
            raise UnreadableError(COMPRESSED % _host(response))
        is_answer, refused, left_out = False, None, 0
        for line, is_whole in _lines_of(response, limit):
            try:
                told = _object_of(line, response)
            except UnreadableError as error:
                if not is_whole:
                    raise
                refused, left_out = error, left_out + 1
                continue
            is_answer = True
            yield told
        if refused and not is_answer:
            raise refused
        if refused:
            _logger.warning(LEFT_OUT, left_out, _host(response))


def _lines_of(response, limit):
    """Yield the lines of a body that are not empty, as they come, and whether each has its end.

    Of one that is too long there is the beginning.
    """
    rest, is_long, latest = b"", False, time.monotonic() + LINES_SECONDS
    for block in _blocks(response, JSON_LIMIT):
        *lines, rest = (rest + block).split(b"\n")
        if time.monotonic() > latest:
            raise requests.ReadTimeout(f"{_host(response)} did not end its answers in time.")
        if is_long and lines:
            is_long = False
            del lines[0]
        for line in lines:
            if line.strip():
                yield line[:limit], True
        if len(rest) > limit:
            if not is_long:
                yield rest[:limit], True
            rest, is_long = b"", True
    if rest.strip() and not is_long:
        yield rest, False


@contextlib.contextmanager
def _answering(method, url, timeout, headers, kwargs):
    """Send a request, and yield its answer, whose body nobody has read yet.

    :raise requests.HTTPError: for a status of 300 or more
    """
    # Without an `auth`, requests would put the user's ~/.netrc in the place of the key.
    kwargs = {"auth": lambda request: request, "allow_redirects": False} | kwargs
    with requests.Session() as session:
        for scheme in ("http://", "https://"):
            session.mount(scheme, TimeoutAdapter(timeout))
        with session.request(
            method, url, headers={**HEADERS, **(headers or {})}, stream=True, **kwargs
        ) as response:
            if response.status_code >= 300:
                raise requests.HTTPError(
                    f"{response.status_code} for url: {response.url}",
                    response=start_of(response),
                )
            yield response


class Memory:
    """The bytes that answers take together while they are read, in all threads of a process."""

    def __init__(self, limit):
        """Take how many that may be: a host gets no more than is left for all others."""
        self._limit = limit
        self._changed = threading.Condition()
        self._taken = Counter()

    @contextlib.contextmanager
    def of(self, host):
        """Yield a function that takes bytes for an answer of a host, which are given back later.

        It waits a while for others to give some back.

        :raise NoRoomError: by the function, when they do not
        """
        taken = 0

        def take(size):
            nonlocal taken
            with self._changed:
                if not self._changed.wait_for(lambda: self._has_room(host, size), MEMORY_PATIENCE):
                    raise NoRoomError(f"{host} sends more than there is room for now.")
                self._taken[host] += size
            taken += size

        try:
            yield take
        finally:
            with self._changed:
                self._taken[host] -= taken
                self._taken += Counter()  # without those that have none
                self._changed.notify_all()

    def _has_room(self, host, size):
        return self._taken[host] + size <= self._limit - self._taken.total()


#: For this process.
MEMORY = Memory(MEMORY_LIMIT)


def read_body(response, limit):
    """Return the body of an answer to a request with `stream=True`.

    :param int limit: bytes
    :raise TooLargeError: for a larger one
    :raise NoRoomError: where others take all memory there is for answers
    :raise UnreadableError: for a compressed one
    :raise requests.ReadTimeout: for one that is not there in time, however steadily it comes
    """
    with MEMORY.of(_host(response)) as take:
        return _read_body(response, limit, BODY_SECONDS, take)


def _read_body(response, limit, seconds, take):
    if _is_compressed(response):
        raise UnreadableError(COMPRESSED % _host(response))
    end = time.monotonic() + seconds
    chunks, size = [], 0
    for chunk in _blocks(response, limit):
        size += len(chunk)
        take(len(chunk))
        if size > limit:
            raise TooLargeError(f"The answer of {_host(response)} is larger than {limit} bytes.")
        if time.monotonic() > end:
            raise requests.ReadTimeout(f"{_host(response)} did not end its answer in time.")
        chunks.append(chunk)
    return b"".join(chunks)


def _blocks(response, limit):
    """Yield a body as it comes, so that the clock can be looked at."""
    read1 = getattr(response.raw, "read1", None)
    if read1 is None:
        # An older urllib3 waits until it has all that it is asked for: that is slow for large ones.
        yield from response.iter_content(1 if limit <= CHUNK else CHUNK)
        return
    try:
        while block := read1(CHUNK):
            yield block
    except ReadTimeoutError as error:
        raise requests.ReadTimeout(error, request=response.request) from error
    except (HTTPError, OSError) as error:
        cut = requests.exceptions.ChunkedEncodingError(error, request=response.request)
        raise cut from error


def read_json(response, limit=JSON_LIMIT, seconds=BODY_SECONDS):
    """Return the JSON object that is the body of an answer to a request with `stream=True`.

    :raise UnreadableError: for anything else; see `read_body()`
    """
    with MEMORY.of(_host(response)) as take:
        content = _read_body(response, limit, seconds, take)
        take(VALUE_SIZE * min(count_values(content), VALUES_LIMIT))
        return _object_of(content, response)


def _object_of(content, response):
    body = None
    with contextlib.suppress(ValueError, RecursionError):
        body = json.loads(content) if count_values(content) <= VALUES_LIMIT else None
    if not isinstance(body, dict):
        start = content[:EXCERPT].decode("utf-8", "replace").strip()
        raise UnreadableError(
            f"{_host(response)} answered with something else than an object of JSON."
            f" It begins with: {start}"
        )
    return body


def count_values(data):
    """Return how many values a JSON text has at most.

    >>> count_values(b'{"a": [1, 2]}')
    3
    """
    return sum(map(data.count, (b",", b"[", b"{")))


def start_of(response):
    """Return a copy of an error's answer with the beginning of its body, and without its request.

    What is kept of a body is text in UTF-8; one that breaks off, or is compressed, is empty.
    """
    body = b""
    with contextlib.suppress(requests.RequestException, HTTPError, RuntimeError, OSError):
        body = _read_start(response)
    copy = requests.Response()
    copy.status_code, copy.reason = response.status_code, response.reason
    copy.headers, copy.url = response.headers.copy(), response.url
    # The body is as long as it is.
    for name in ("Content-Encoding", "Content-Length", "Transfer-Encoding"):
        copy.headers.pop(name, None)
    copy.encoding = "utf-8"
    copy._content = body
    return copy


def _read_start(response):
    if response._content is not False or isinstance(response.raw, io.BytesIO):
        return (response.content or b"")[:ERROR_LIMIT]
    if response.raw is None or _is_compressed(response):
        return b""
    start, end = bytearray(), time.monotonic() + ERROR_SECONDS
    for chunk in _blocks(response, ERROR_LIMIT):
        start += chunk
        if len(start) > ERROR_LIMIT or time.monotonic() > end:
            break
    return bytes(start[:ERROR_LIMIT])


def _is_compressed(response):
    encoding = response.headers.get("Content-Encoding") or "identity"
    return encoding.strip().lower() != "identity"


def _host(response):
    return urlsplit(response.url or "").hostname or "The provider"


# === ADDRESSES ON THE INTERNET ===
# Connections to the internet only, for addresses that a provider names.
#
# A name is resolved once, what comes out is judged, and that very address is connected to: a second
# answer of its name server changes nothing. Certificates are those of the name.

#: Addresses of one name that are tried, each for as long as a connection may take.
MOST_ADDRESSES = 4
#: Where gateways put the addresses of IPv4, as RFC 6052 has it.
NAT64 = ipaddress.ip_network("64:ff9b::/96")
NO_NAME = "The name of a host is none."
NOT_PUBLIC = "The address of a host is none of the internet."


class NotPublicError(ValueError):
    """An address is of this machine, of its network, or of none."""


def is_public(address):
    """Return whether an IP address is one of the internet, also in its forms within IPv6.

    >>> [is_public(ip) for ip in ("1.1.1.1", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1")]
    [True, True, True]
    >>> [is_public(ip) for ip in ("127.0.0.1", "::ffff:127.0.0.1", "2002:7f00:1::", "224.0.0.1")]
    [False, False, False, False]
    """
    ip = ipaddress.ip_address(address)
    if ip.version == 6:
        inner = ip.ipv4_mapped or ip.sixtofour
        if ip in NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        ip = inner or ip
    # Python counts these among the global ones.
    is_special = ip.is_multicast or ip.is_reserved or getattr(ip, "is_site_local", False)
    return ip.is_global and not is_special


def resolve(host, port):
    """Return the public IP addresses of a host.

    :raise NotPublicError: if it has no public one
    :raise socket.gaierror: if it has none at all
    """
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise NotPublicError(NO_NAME) from None
    addresses = dict.fromkeys(address[0] for *_kind, address in found)
    if public := [one for one in addresses if is_public(one)]:
        return public[:MOST_ADDRESSES]
    raise NotPublicError(NOT_PUBLIC)


class _PublicConnection:
    """What a connection of urllib3 becomes: `_dns_host` is what it connects to, and no more."""

    def _new_conn(self):
        host = self._dns_host
        try:
            addresses = resolve(host, self.port)
        except socket.gaierror as error:
            raise NewConnectionError(self, f"The host is not known: {error}") from error
        failure = None
        for self._dns_host in addresses:
            try:
                return super()._new_conn()
            except (NewConnectionError, ConnectTimeoutError) as error:
                failure = error
            finally:
                # The certificate has to be that of the name.
                self._dns_host = host
        raise failure


class PublicAdapter(TimeoutAdapter):
    """Connects to public addresses only, and never over a proxy, which would resolve the name."""

    POOL_CLASSES = _pool_classes(_PublicConnection)

    def send(self, request, proxies=None, **kwargs):
        """Send a request.

        :raise NotPublicError: if its host has no public address
        """
        return super().send(request, proxies=None, **kwargs)


# === PARTS OF ADDRESSES ===
# What becomes part of an address: names and ids, which users and providers choose.

REFUSED = "“%s” cannot be part of an address. Correct the name of the model, or the id of the job."


def segment(text):
    """Return a text as one segment of a path.

    >>> segment("../files?x")
    '..%2Ffiles%3Fx'

    :raise BadRequestError: for one that leads elsewhere even when it is quoted
    """
    text = str(text)
    if text in {"", ".", ".."}:
        raise BadRequestError(REFUSED % text)
    return quote(text, safe="")


def path(text):
    """Return a text that has segments, such as `owner/app`, as a path.

    >>> path("/fal-ai/flux 1/")
    'fal-ai/flux%201'

    :raise BadRequestError: see `segment()`
    """
    return "/".join(segment(part) for part in text.strip("/").split("/"))
