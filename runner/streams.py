"""How many event streams may be open: each keeps a thread of a server, or a whole worker, busy."""

import contextlib
import threading

from odoo.tools import config

from . import thread_lock

#: Streams of a user at once, over all processes of a database.
USER_STREAMS = 5
#: Direct answers of this process at once. Each has a connection of its own for the lock of its
#: thread, and PostgreSQL has not many more than Odoo's pool.
DIRECT_ANSWERS = threading.BoundedSemaphore(max(4, config["db_maxconn"] // 4))
#: Upper half of the keys of the locks that count the streams of a user.
STREAM_LOCK = 1_819_110_256 << 32


@contextlib.contextmanager
def of_user(dbname, uid):
    """Yield whether the user may have one more stream, and count it until the end.

    By session locks, which end with the process, and so are never forgotten.
    """
    keys = [STREAM_LOCK + uid * USER_STREAMS + place for place in range(USER_STREAMS)]
    taken = next((key for key in keys if thread_lock.try_lock(dbname, key)), None)
    try:
        yield taken is not None
    finally:
        if taken is not None:
            thread_lock.unlock(dbname, taken)


@contextlib.contextmanager
def direct():
    """Yield whether this process may give one more answer directly, and count it until the end."""
    is_free = DIRECT_ANSWERS.acquire(blocking=False)
    try:
        yield is_free
    finally:
        if is_free:
            DIRECT_ANSWERS.release()
