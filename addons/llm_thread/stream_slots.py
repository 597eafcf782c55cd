"""How many answers a server process streams at once: each keeps a thread and connections busy."""

import contextlib
import threading
from collections import Counter

from odoo.tools import config

#: Streams of one user.
USER_STREAMS = 3
#: Streams of the process; the pool, and what PostgreSQL has beside it, are for the others, too.
PROCESS_STREAMS = max(4, config["db_maxconn"] // 4)

_open = Counter()
_guard = threading.Lock()


@contextlib.contextmanager
def stream_slot(dbname, uid):
    """Yield whether one more stream may be opened for a user, and count it until the end."""
    with _guard:
        is_free = _open[dbname, uid] < USER_STREAMS and _open.total() < PROCESS_STREAMS
        _open[dbname, uid] += is_free
    try:
        yield is_free
    finally:
        with _guard:
            _open[dbname, uid] -= is_free
            if not _open[dbname, uid]:
                del _open[dbname, uid]
