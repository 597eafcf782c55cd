"""What a server sends, read with bounds and in linear time; knows nothing of Odoo.

Streams of events are read by hand: `sseclient-py` copies an event for each piece of it that comes
and has no bounds; `httpx-sse` is for `httpx`, and loses an event that no empty line ends, and joins
those that none parts, as the standard says and servers do send.
"""

import codecs
import contextlib
import itertools
import json
import re
import threading
import time
from collections import Counter

import requests

#: Bytes of a whole answer: ten large images, or the vectors of two thousand texts.
BODY_LIMIT = 64 * 1024 * 1024
#: Values of an answer: in memory each is up to a hundred times as large as it was when it was sent.
VALUES_LIMIT = 4_000_000
#: Bytes of a line of a stream, and of a stream: hours of an answer, each word in its envelope.
LINE_LIMIT = 8 * 1024 * 1024
STREAM_LIMIT = 64 * 1024 * 1024
#: Seconds from the beginning of a whole answer to its end, and for the body of an error.
BODY_SECONDS = 600
ERROR_SECONDS = 10
CHUNK = 64 * 1024
#: How the first line of a stream of events begins.
EVENT_RE = re.compile(rb"(?:data|event|id|retry)?(?::|$)")
#: Bytes of all answers that a process reads at once, and seconds that one waits for its share.
MEMORY_LIMIT = 256 * 1024 * 1024
MEMORY_PATIENCE = 30.0
NO_OBJECT = "It is no object."
TOO_MANY = "There are too many values or levels."
#: What is sent with each request. Compressed, a small answer becomes a thousand times as large:
#: nobody who asks for none has to decode one.
HEADERS = {"Accept-Encoding": "identity"}


class NoRoomError(requests.ConnectionError):
    """There is no memory for an answer just now."""


class UnreadableError(requests.ConnectionError):
    """An answer came and is none: it is compressed, too large, or something else than JSON."""


def is_compressed(response):
    encoding = response.headers.get("Content-Encoding") or "identity"
    return encoding.strip().lower() != "identity"


class Memory:
    """The bytes that answers take together while they are read, in all threads of a process."""

    def __init__(self, limit):
        """Take how many that may be: a host gets no more than is left for all others."""
        self._limit = limit
        self._changed = threading.Condition()
        self._taken = Counter()

    @contextlib.contextmanager
    def of(self, host):
        """Yield a function that says how many bytes of an answer of a host are held from now on.

        For more than before it waits a while for others to let go of some.

        :raise NoRoomError: by the function, when they do not
        """
        held = 0

        def hold(size):
            nonlocal held
            more = size - held
            with self._changed:
                if more > 0 and not self._changed.wait_for(
                    lambda: self._has_room(host, more), MEMORY_PATIENCE
                ):
                    raise NoRoomError(f"{host} sends more than there is room for now.")
                self._change(host, more)
            held = size

        try:
            yield hold
        finally:
            with self._changed:
                self._change(host, -held)

    def _change(self, host, more):
        self._taken[host] += more
        if more < 0:
            self._taken += Counter()  # without those that have none
            self._changed.notify_all()

    def _has_room(self, host, size):
        return self._taken[host] + size <= self._limit - self._taken.total()


#: For this process.
MEMORY = Memory(MEMORY_LIMIT)


def read_body(response, host):
    """Return the body of an answer.

    :raise UnreadableError: unless it is plain and bounded
    """
    _check_encoding(response, host)
    chunks, size, end = [], 0, time.monotonic() + BODY_SECONDS
    with MEMORY.of(host) as hold:
        for chunk in _blocks(response, CHUNK):
            size += len(chunk)
            if time.monotonic() > end:
                raise requests.ReadTimeout(f"{host} did not end its answer in time.")
            _check_size(size, BODY_LIMIT, host)
            hold(size)
            chunks.append(chunk)
        return b"".join(chunks)


def read_start(response, limit):
    """Return the first bytes of the body of an error, none of a compressed one."""
    start, end = bytearray(), time.monotonic() + ERROR_SECONDS
    for chunk in () if is_compressed(response) else _blocks(response, CHUNK):
        start += chunk
        if len(start) > limit or time.monotonic() > end:
            break
    return bytes(start[:limit])


def read_lines(response, host):
    """Yield the lines of a body, each as soon as it is there.

    :raise UnreadableError: unless they are plain and bounded
    """
    _check_encoding(response, host)
    with MEMORY.of(host) as hold:
        yield from _lines(response, host, hold)


def _lines(response, host, hold):
    # Pieces of a line are put together once: to add each to the last is quadratic.
    pieces, length, size = [], 0, 0
    for block in _blocks(response):
        size += len(block)
        _check_size(size, STREAM_LIMIT, host)
        hold(length + len(block))  # who got the lines before has done with them
        *ends, rest = block.split(b"\n")
        for end in ends:
            yield b"".join([*pieces, end])
            pieces, length = [], 0
        pieces.append(rest)
        length += len(rest)
        _check_size(length, LINE_LIMIT, host)
    if length:
        yield b"".join(pieces)


def read_events(lines, refused):
    """Yield the objects of a stream of events, each as soon as it is there, and None at its end.

    A body that is no stream is one object, whatever type it is said to have. More than the standard
    is read: an event that no empty line ends, and several `data` that are objects by themselves.

    :param lines: those of the body
    :param refused: returns the exception for bytes that are no object
    """
    lines = (line.rstrip(b"\r") for line in lines)
    first = next((line for line in lines if line.strip()), b"").removeprefix(codecs.BOM_UTF8)
    if not EVENT_RE.match(first):
        body = b"\n".join([first, *lines])
        try:
            yield parse_json(body)
        except ValueError:
            raise refused(body) from None
        yield None
        return
    pending = []
    for line in itertools.chain([first], lines, [None]):
        name, _colon, data = (line or b"").partition(b":")
        if name == b"data" and data.strip() not in {b"", b"null"}:
            pending.append(data.strip())
        elif line:
            continue
        if pending == [b"[DONE]"]:
            yield None
            return
        if not pending or (line and len(pending) > 1):
            continue
        try:
            event = parse_json(b"\n".join(pending))
        except ValueError:
            if line != b"":
                continue  # the next lines have the rest of it, or it broke off
            raise refused(b"\n".join(pending)) from None
        pending = []
        yield event


def parse_json(data):
    """Return the object of a JSON text; bytes that are no text in it are replaced.

    :param bytes data: of any length
    :raise ValueError: for something else, and for one of too many values or levels
    """
    if sum(map(data.count, (b",", b"[", b"{"))) > VALUES_LIMIT:
        raise ValueError(TOO_MANY)
    try:
        value = json.loads(data.decode("utf-8-sig", "replace"))
    except RecursionError:
        raise ValueError(TOO_MANY) from None
    if not isinstance(value, dict):
        raise ValueError(NO_OBJECT)  # noqa: TRY004 as any other text that is none
    return value


def _blocks(response, size=1):
    # iter_content() waits for a full block; read1(), of urllib3 2, takes what has come.
    read1 = getattr(response.raw, "read1", None)
    if read1 is None:
        yield from response.iter_content(size)
        return
    while block := read1(CHUNK):
        yield block


def _check_encoding(response, host):
    if is_compressed(response):
        raise UnreadableError(f"{host} compressed its answer though it was asked not to.")


def _check_size(size, limit, host):
    if size > limit:
        raise UnreadableError(f"{host} sent an answer that is larger than {limit} bytes.")
