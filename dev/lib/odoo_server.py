"""Run Odoo: installations, scripts in its environment, servers."""

import json
import os
import shutil
import subprocess
import urllib.request
from pathlib import Path

from . import family, odoo_source, paths, postgres, processes
from .processes import wait_for
from .say import halt

_CODE = """\
import json as _json
with open({source!r}) as _file:
    exec(compile(_file.read(), {source!r}, "exec"), globals())
env.cr.commit()
with open({answer!r}, "w") as _file:
    _json.dump(globals().get("result"), _file, default=str)
"""


def python_environment(odoo):
    """Return the environment in which the Python of Odoo finds it, and our tools."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("ODOO_")}
    return {
        **env,
        "PYTHONPATH": f"{odoo.python_path}{os.pathsep}{paths.DEV}",
        "PYTHONPYCACHEPREFIX": str(paths.cache() / "pycache"),
        "PYTHONUNBUFFERED": "1",
        "MALLOC_ARENA_MAX": "2",
        # The browser and the client talk to this machine, through no proxy.
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }


def run_program(program, *arguments):
    """Run a program of ours in the Python of Odoo; return its status."""
    command = [paths.venv_python("odoo"), program, *arguments]
    return subprocess.call(command, env=python_environment(odoo_source.current()))


class Instance:
    """An Odoo on a cluster, with its configuration, files and logs in one folder.

    :param site: a folder in which pip installed our modules, that take the place of the checkout's
    """

    def __init__(self, cluster, folder, *, extra_addons=(), test=True, site=None):
        self.cluster = cluster
        self.folder = Path(folder)
        self.odoo = odoo_source.current()
        self.site = site
        self.test = test
        self.data_dir = self.folder / "data"
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.conf = self.folder / "odoo.conf"
        others = family.addons() if family.folder() else paths.ROOT / "addons"
        ours = () if site else (paths.module_link(), others)
        self.set_addons([*self.odoo.addons, *ours, *extra_addons])

    def set_addons(self, addons_path):
        """Have this addons path in every Odoo that starts from now on."""
        self.addons_path = [*map(Path, addons_path)]
        options = {
            "addons_path": ",".join(map(str, self.addons_path)),
            "data_dir": self.data_dir,
            "db_host": self.cluster.socket,
            "db_port": postgres.PORT,
            "db_user": postgres.USER,
            "http_interface": "127.0.0.1",
            "list_db": self.test,
            "proxy_mode": False,
            "limit_time_real_cron": 600,
        }
        lines = [f"{key} = {value}" for key, value in options.items()]
        self.conf.write_text("\n".join(["[options]", *lines, ""]))

    @property
    def environment(self):
        env = python_environment(self.odoo)
        if self.site:
            env["PYTHONPATH"] += f"{os.pathsep}{self.site}"
        if family.folder():
            env["PYTHONPATH"] += f"{os.pathsep}{family.step().folder}"
        return {**env, "ODOO_RC": str(self.conf)}

    def command(self, *arguments):
        return [paths.venv_python("odoo"), self.odoo.script, *arguments]

    def run(self, *arguments, log, seconds=None):
        """Run odoo to its end; return its status, -1 when its time was up; the log is in a file."""
        with Path(log).open("ab") as file:
            command = self.command(*arguments)
            return processes.run(command, file, env=self.environment, seconds=seconds)

    def run_tests(self, database, tags, *arguments, log, seconds=None):
        """Run tests in odoo; return as run() does."""
        return self.run(
            *("-d", database, "--test-tags", ",".join(tags), "--stop-after-init"),
            *(f"--http-port={processes.free_port()}", f"--gevent-port={processes.free_port()}"),
            *("--max-cron-threads=0", *arguments),
            log=log,
            seconds=seconds,
        )

    def create_database(self, name, modules=(), *, template="tpl", log=None):
        """Make a database from a template and install modules into it."""
        self.cluster.create_database(name, template)
        files = self.data_dir / "filestore"
        if (files / template).is_dir():
            shutil.copytree(files / template, files / name, dirs_exist_ok=True)
        if modules:
            self.install(name, modules, log=log)

    def drop_database(self, name):
        self.cluster.drop_database(name)
        shutil.rmtree(self.data_dir / "filestore" / name, ignore_errors=True)

    def install(self, database, modules, *, update=(), log=None):
        """Install modules, and upgrade those of `update`.

        :raise RuntimeError: if that fails; it names the log
        """
        log = log or self.folder / f"{database}.install.log"
        status = self.run(
            *("-d", database, "-i", ",".join(modules), "--stop-after-init", "--no-http"),
            *(["-u", ",".join(update)] if update else []),
            log=log,
        )
        if status:
            raise RuntimeError(f"Odoo could not install {', '.join(modules)}: see {log}")

    def code(self, database, source, *, log=None, env=None):
        """Run Python with `env` in Odoo, commit, and return its `result` (as JSON has it).

        :raise RuntimeError: if that fails; it names the log
        """
        log = log or self.folder / f"{database}.code.log"
        stem = self.folder / f"code-{os.getpid()}-{paths.short_hash(source, os.urandom(8))}"
        program, start, answer = (stem.with_suffix(f".{kind}") for kind in ("py", "in", "json"))
        program.write_text(source)
        start.write_text(_CODE.format(source=str(program), answer=str(answer)))
        command = ("shell", "-c", self.conf, "-d", database, "--no-http")
        with Path(log).open("ab") as file, start.open("rb") as stdin:
            status = processes.run(
                self.command(*command, "--shell-interface=python"),
                file,
                env={**self.environment, **(env or {})},
                stdin=stdin,
            )
        start.unlink()
        program.unlink()
        if status or not answer.exists():
            raise RuntimeError(f"the code failed in Odoo: see {log}")
        result = json.loads(answer.read_text())
        answer.unlink()
        return result

    def server(self, database, **options):
        return Server(self, database, **options)


class Server:
    """One Odoo server on a database: threaded, or prefork where workers is not 0."""

    def __init__(
        self, instance, database, *, name="server", workers=0, cron_threads=1, port=None, args=(),
        env=None,
    ):  # fmt: skip
        self.instance = instance
        self.database = database
        self.port = port or processes.free_port()
        self.gevent_port = processes.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = instance.folder / f"{name}.log"
        self.process = None
        self.env = env or {}
        self.arguments = [
            *("-c", instance.conf, "-d", database, f"--db-filter=^{database}$"),
            *(f"--http-port={self.port}", f"--gevent-port={self.gevent_port}"),
            *(f"--workers={workers}", f"--max-cron-threads={cron_threads}"),
            *args,
        ]

    def start(self, *, wait=True):
        env = {**self.instance.environment, **self.env}
        self.process = processes.start(self.instance.command(*self.arguments), self.log, env=env)
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self):
        wait_for(lambda: self.is_ready() or not self.process.is_alive(), 90)
        if not self.is_ready():
            halt(f"Odoo did not start: see {self.log}.")

    def is_ready(self):
        """Tell whether it answers: it, and no other program that took the port meanwhile."""
        if not self.process.listens_on(self.port):
            return False
        try:
            with urllib.request.urlopen(f"{self.url}/web/health", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def stop(self, seconds=30):
        """Stop it as an administrator would, and wait for what it finishes."""
        if self.process:
            self.process.stop(seconds=seconds)

    def kill(self):
        """End it and its workers at once, as the kernel does when memory is short."""
        self.process.kill()

    def log_text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def call(self, model, method, *args, login="admin", **kwargs):
        """Call a method over RPC as a user, whose password is the login."""
        uid = self._rpc("common", "login", self.database, login, login)
        return self._rpc(
            "object", "execute_kw", self.database, uid, login, model, method, args, kwargs
        )

    def _rpc(self, service, method, *args):
        params = {"service": service, "method": method, "args": args}
        body = json.dumps({"jsonrpc": "2.0", "method": "call", "params": params}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/jsonrpc", body, headers)
        with urllib.request.urlopen(request, timeout=120) as answer:
            reply = json.load(answer)
        if "error" in reply:
            raise RuntimeError(reply["error"]["data"]["message"])
        return reply["result"]
