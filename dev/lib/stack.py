"""The demo's stack: PostgreSQL, a model and Odoo, kept running between commands.

stack = Stack()
stack.start()                  # takes what is still running, starts the rest
stack.url, stack.endpoint      # where Odoo is, and {"api_base", "api_key", "model"}
stack.instance.code(stack.database, "result = 1")
stack.stop()
"""

import os
import shutil

from . import model_server, modules, odoo_server, paths, postgres, processes, seed
from .processes import wait_for
from .say import HaltError, halt, step

PORT = 8069
LOGIN = PASSWORD = "admin"

# The key is handed over in the environment, and so is in no file.
_PROVIDER = """\
import os
name, model_name = os.environ["LLM_PROVIDER"], os.environ["LLM_MODEL"]
values = {
    "api_base": os.environ["LLM_API_BASE"],
    "api_key": os.environ.get("LLM_API_KEY") or "none",
}
provider = env["llm.provider"].search([("name", "=", name)], limit=1)
if provider:
    provider.write(values)
else:
    provider = env["llm.provider"].create({"name": name, "service": "openai", **values})
model = provider.model_ids.filtered(lambda model: model.name == model_name)
if not model:
    model = env["llm.model"].create(
        {"name": model_name, "provider_id": provider.id, "model_use": "chat"}
    )
provider.model_ids.write({"default": False})
model.default = True
"""


def stop(folder):
    """Stop what a stack has started; return the names of what was running."""
    stopped = processes.Ledger(folder / "pids.json").stop_all()
    left = processes.marked(folder)
    processes.end_marked(folder)
    return stopped or [f"{len(left)} processes"] * bool(left)


class Stack:
    database = "demo"

    def __init__(self):
        self.folder = paths.state() / "demo"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ledger = processes.Ledger(self.folder / "pids.json")
        self.cluster = postgres.Cluster(self.folder / "cluster", quick=False)
        self.instance = odoo_server.Instance(self.cluster, self.folder, test=False)
        self.server = self.endpoint = None

    @property
    def url(self):
        return self.server.url

    def start(self):
        """Start what is not running; nothing that fails here is left half done."""
        processes.mark(self.folder)
        try:
            self._start_postgres()
            self._start_model()
            changed = self._prepare_database()
            self._start_odoo(restart=changed)
        except BaseException as error:
            self.stop()
            if isinstance(error, RuntimeError):  # an installation that failed; it names its log
                halt(f"{error}. 'make clean' starts from nothing.")
            raise
        return self

    def stop(self):
        """Stop what was started here, by this command or an earlier one."""
        return stop(self.folder)

    def ensure_provider(self, name):
        """Have a provider on the endpoint."""
        values = {f"LLM_{key.upper()}": value for key, value in self.endpoint.items()}
        self.instance.code(self.database, _PROVIDER, env={**values, "LLM_PROVIDER": name})

    def _start_postgres(self):
        running = self.ledger.process("postgres")
        if running and self.cluster.is_ready():
            self.cluster.process = running
            return
        step("PostgreSQL …")
        if not self.ledger.load():  # the cache was removed by hand while all of it was running
            processes.end_marked(self.folder)
        if self.cluster.exists():
            self.cluster.start()
        else:
            seed.plant(self.cluster, self.folder)
        self.ledger.add("postgres", self.cluster.process)

    def _start_model(self):
        self.endpoint = model_server.endpoint_from_environment()
        if self.endpoint:
            return
        port = self.ledger.load().get("model", {}).get("port")
        server = model_server.ModelServer(self.folder, port=port)
        if not self.ledger.process("model"):
            step("the model server …")
            server = model_server.ModelServer(self.folder).start()
            self.ledger.add("model", server.process, port=server.port)
        self.endpoint = server.endpoint

    def _prepare_database(self):
        """Make the database, or upgrade it when the modules have changed; tell whether it was."""
        names = modules.installable(self.instance)
        state = modules.fingerprint()
        stamp = self.folder / f"{self.database}.stamp"
        exists = self.database in self.cluster.databases()
        if exists and stamp.exists() and stamp.read_text() == state:
            return False
        if server := self.ledger.process("odoo"):
            server.stop()
        stamp.unlink(missing_ok=True)
        if exists:
            step("upgrading the modules …")
            self.instance.install(self.database, names, update=names)
        else:
            step(f"installing {', '.join(names)} …")
            self._make_database(names)
        stamp.write_text(state)
        return True

    def _make_database(self, names):
        """Install under another name first: a database that is there is complete."""
        unfinished = f"{self.database}_unfinished"
        self.instance.drop_database(unfinished)
        self.instance.create_database(unfinished, names)
        files = self.instance.data_dir / "filestore"
        shutil.rmtree(files / self.database, ignore_errors=True)
        if (files / unfinished).is_dir():
            (files / unfinished).rename(files / self.database)
        self.cluster.sql(f'ALTER DATABASE "{unfinished}" RENAME TO "{self.database}"')

    def _start_odoo(self, *, restart):
        def make(port=None):
            return self.instance.server(self.database, name="odoo", port=port, cron_threads=2)

        running = self.ledger.process("odoo")
        self.server = make(self._port(self.ledger.load().get("odoo", {})))
        self.server.process = running
        if running and not restart and wait_for(self.server.is_ready, 10):
            return
        self.server.stop()
        step("Odoo …")
        try:
            self.server.start()
        except HaltError:
            if os.environ.get("ODOO_PORT") or processes.port_is_free(self.server.port):
                raise
            # Another program took the port between the look and the start.
            self.server = make().start()
        self.ledger.add("odoo", self.server.process, port=self.server.port)

    def _port(self, entry):
        """Return the port of the running server, the one asked for, 8069, or a free one."""
        if self.ledger.process("odoo"):
            return entry.get("port")
        wanted = os.environ.get("ODOO_PORT")
        if not wanted:
            return PORT if processes.port_is_free(PORT) else processes.free_port()
        if not wanted.isdigit() or not processes.port_is_free(int(wanted)):
            halt(
                f"port {wanted} (ODOO_PORT) cannot be used, another program may have it: "
                "choose another one, or leave ODOO_PORT away to have a free one taken."
            )
        return int(wanted)
