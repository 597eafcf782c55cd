"""A PostgreSQL cluster of our own: one folder, a unix socket, no network port."""

import contextlib
import os
import pwd
import re
import shutil
import signal
import subprocess
from pathlib import Path

from . import commands, paths, processes
from .say import halt

USER = "odoo"  # Odoo refuses to work as "postgres"
PORT = 5432  # names the socket file only
_SHORT = Path("/var/tmp")
#: Names the folder that a home there is for.
_OF = "of"

_SETTINGS = """\
listen_addresses = ''
port = {port}
unix_socket_directories = '{socket}'
unix_socket_permissions = 0700
max_connections = 200
shared_buffers = 128MB
logging_collector = off
log_min_messages = warning
log_min_error_statement = panic
"""
# A database that is thrown away after the tests need not survive a power cut.
_QUICK = """\
fsync = off
synchronous_commit = off
full_page_writes = off
"""


def find_binaries():
    """Return the folder of PostgreSQL's server programs, the newest, or None."""
    folders = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"),
        key=lambda folder: int(re.sub(r"\D", "", folder.parent.name) or 0),
        reverse=True,
    )
    if found := shutil.which("initdb"):
        folders.append(Path(found).resolve().parent)
    return next((folder for folder in folders if (folder / "postgres").exists()), None)


def _program(name):
    folder = find_binaries()
    return folder / name if folder else halt("PostgreSQL is not installed: run 'make setup'.")


def _server_user():
    """Return the user that the server runs as: it refuses to be root."""
    if os.geteuid():
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        halt(
            "PostgreSQL does not run as root and there is no user 'postgres': add one with "
            "'adduser --system --group postgres', or work as an ordinary user."
        )


class Cluster:
    """The cluster of a folder; `quick` ones may lose what they have by a power cut."""

    def __init__(self, folder, *, quick=True):
        self.folder = Path(folder)
        self.quick = quick
        self.user = _server_user()
        # The server's user has to reach it, and a socket's name is short.
        short = _SHORT / f"{paths.MODULE}-{paths.short_hash(self.folder)}"
        self.home = short if self.user or len(str(self.folder)) > 80 else self.folder
        self.data = self.home / "data"
        self.socket = self.home / "s"
        self.log = self.folder / "postgresql.log"
        self.process = None
        self._connect = ["-h", self.socket, "-p", str(PORT), "-U", USER]

    def prepare(self):
        """Make the folders, ours alone."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.home != self.folder:
            owners = {os.geteuid(), pwd.getpwnam(self.user).pw_uid if self.user else os.geteuid()}
            self.home.mkdir(mode=0o700, exist_ok=True)
            if self.home.is_symlink() or self.home.stat().st_uid not in owners:
                halt(
                    f"{self.home} belongs to somebody else: remove it, or set XDG_CACHE_HOME to "
                    "another folder."
                )
            (self.home / _OF).write_text(str(self.folder))
        self._give(self.home)

    def _give(self, path):
        if self.user:
            shutil.chown(path, self.user, self.user)

    def initdb(self):
        self.prepare()
        commands.run(
            [
                *(_program("initdb"), "-D", self.data, "-U", USER, "--encoding=UTF8"),
                *("--locale=C", "--auth=trust", "--no-sync"),
            ],
            "PostgreSQL's initdb",
            name="postgres",
            cwd=self.home,
            user=self.user,
        )

    def exists(self):
        """Tell whether it is whole: its data may outlive a cache that was removed by hand."""
        return self.folder.is_dir() and (self.data / "PG_VERSION").exists()

    def restore(self, archive):
        """Fill the cluster from an archive made by save()."""
        self.prepare()
        shutil.rmtree(self.data, ignore_errors=True)
        command = ["tar", "-xf", archive, "-C", self.home]
        commands.run(command, "unpacking a database", name="postgres")

    def save(self, archive):
        """Write the stopped cluster to an archive."""
        command = ["tar", "-cf", archive, "-C", self.home, "data"]
        commands.run(command, "packing a database", name="postgres")

    def start(self):
        self.socket.mkdir(mode=0o700, exist_ok=True)
        self._give(self.socket)
        settings = _SETTINGS.format(port=PORT, socket=self.socket)
        (self.data / "postgresql.auto.conf").write_text(settings + (_QUICK if self.quick else ""))
        self._give(self.data / "postgresql.auto.conf")
        self.process = processes.start(
            [_program("postgres"), "-D", self.data],
            self.log,
            user=self.user,
            cwd=self.home,
            env={**os.environ, "LC_ALL": "C"},
        )
        if not processes.wait_for(lambda: self.is_ready() or not self.process.is_alive(), 60):
            self.process.kill()
        if not self.is_ready():
            halt(f"PostgreSQL did not start: see {self.log}.")
        return self.process

    def is_ready(self):
        command = [_program("pg_isready"), "-q", *self._connect]
        return not subprocess.run(command, capture_output=True, check=False).returncode

    def stop(self, signum=signal.SIGINT):
        """Stop it: SIGINT ends the sessions, SIGQUIT is a crash."""
        if self.process:
            self.process.stop(signum, 30)

    def restart(self, signum=signal.SIGINT):
        self.stop(signum)
        return self.start()

    def remove(self):
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.home, ignore_errors=True)

    def sql(self, statement, database="postgres"):
        """Run SQL and return what psql prints: a line a row, columns apart by |."""
        result = subprocess.run(
            [
                *(_program("psql"), "-X", "-qAt", "-v", "ON_ERROR_STOP=1"),
                *(*self._connect, "-d", database),
            ],
            input=statement,
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            raise RuntimeError(result.stderr.strip())
        return result.stdout.strip()

    def databases(self):
        return self.sql("SELECT datname FROM pg_database WHERE NOT datistemplate").split()

    def create_database(self, name, template="template0"):
        self.sql(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')

    def drop_database(self, name):
        self.sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def sweep():
    """End and remove the clusters whose folders are gone: of labs that were killed, or of a cache
    that was removed by hand.
    """
    for home in _SHORT.glob(f"{paths.MODULE}-*"):
        with contextlib.suppress(OSError):  # somebody else's, or gone meanwhile
            folder = Path((home / _OF).read_text())
            if not folder.exists():
                processes.end_marked(folder.parent)
                shutil.rmtree(home)
