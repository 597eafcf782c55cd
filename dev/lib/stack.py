"""The demo's stack: PostgreSQL, a model and Odoo, kept running between commands.

stack = Stack()
stack.start()                  # anew, whatever of it is still running
stack.url, stack.endpoint      # where Odoo is, and {"api_base", "api_key", "model"}
stack.instance.code(stack.database, "result = 1")
stack.stop()
"""

import os
import shutil

from . import model_server, modules, odoo_server, paths, postgres, processes, seed
from .say import halt, step

PORT = 8069
LOGIN = PASSWORD = "admin"
PROVIDER = "Local model"

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


class Stack:
    database = "demo"

    def __init__(self):
        self.folder = paths.state() / "demo"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.cluster = postgres.Cluster(self.folder / "cluster", quick=False)
        self.instance = odoo_server.Instance(self.cluster, self.folder, test=False)
        self.server = self.endpoint = None

    @property
    def url(self):
        return self.server.url

    def start(self):
        """Start everything; nothing that fails here is left half done."""
        self.stop()
        processes.mark(self.folder)
        try:
            self._start_postgres()
            self._start_model()
            self._prepare_database()
            self._start_odoo()
        except BaseException as error:
            self.stop()
            if isinstance(error, RuntimeError):  # an installation that failed; it names its log
                halt(f"{error}. 'make clean' starts from nothing.")
            raise
        return self

    def stop(self):
        """Stop what was started here, by this command or an earlier one."""
        processes.stop_marked(self.folder)

    def ensure_provider(self):
        """Have a provider on the endpoint, whose port is another one each time."""
        values = {f"LLM_{key.upper()}": value for key, value in self.endpoint.items()}
        self.instance.code(self.database, _PROVIDER, env={**values, "LLM_PROVIDER": PROVIDER})

    def _start_postgres(self):
        step("PostgreSQL …")
        if self.cluster.exists():
            self.cluster.start()
        else:
            seed.plant(self.cluster, self.folder)

    def _start_model(self):
        self.endpoint = model_server.endpoint_from_environment()
        if not self.endpoint:
            step("the model server …")
            self.endpoint = model_server.ModelServer(self.folder).start().endpoint

    def _prepare_database(self):
        """Make the database, or upgrade it when the modules have changed."""
        names = modules.installable(self.instance)
        state = modules.fingerprint()
        stamp = self.folder / f"{self.database}.stamp"
        exists = self.database in self.cluster.databases()
        if exists and stamp.exists() and stamp.read_text() == state:
            return
        stamp.unlink(missing_ok=True)
        if exists:
            step("upgrading the modules …")
            self.instance.install(self.database, names, update=names)
        else:
            step(f"installing {', '.join(names)} …")
            self._make_database(names)
        stamp.write_text(state)

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

    def _start_odoo(self):
        step("Odoo …")
        port = _port()
        self.server = self.instance.server(self.database, name="odoo", port=port, cron_threads=2)
        self.server.start()


def _port():
    """Return the port that was asked for, or the first one from 8069 on that is free."""
    wanted = os.environ.get("ODOO_PORT")
    if not wanted:
        return next(port for port in range(PORT, 2**16) if processes.port_is_free(port))
    if not wanted.isdigit() or not processes.port_is_free(int(wanted)):
        halt(
            f"port {wanted} (ODOO_PORT) cannot be used, another program may have it: "
            "choose another one, or leave ODOO_PORT away to have a free one taken."
        )
    return int(wanted)
