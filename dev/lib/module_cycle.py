"""Install a module alone, fill it with data, upgrade it, uninstall it, and look what is left."""

import re

from . import modules, odoo_log
from .odoo_tests import tail

# What a used database has, as far as the modules that are installed know it.
DATA = """\
def has(model, field=None):
    return model in env and (not field or field in env[model]._fields)

made = {}
if has("llm.provider"):
    if not env["llm.provider"]._get_available_services():
        # No module that brings a service is there: the database has kept data of one.
        type(env["llm.provider"])._get_available_services = lambda self: [("cycle", "Cycle")]
    service = env["llm.provider"]._get_available_services()[0][0]
    provider = env["llm.provider"].create(
        {"name": "Cycle", "service": service, "api_key": "secret"}
    )
    made["model"] = env["llm.model"].create(
        {"name": "cycle-1", "provider_id": provider.id, "model_use": "chat"}
    )
    env["res.partner"].search([], limit=1).message_post(body="Hello")
if has("llm.tool"):
    env["llm.tool"].search([], limit=1).copy({"name": "cycle_tool"})
if has("llm.thread"):
    thread = env["llm.thread"].create(
        {"name": "Cycle", "provider_id": provider.id, "model_id": made["model"].id}
    )
    for role in ("user", "assistant"):
        thread.message_post(body="Hello", llm_role=role)
    made["thread"] = thread
if has("llm.generation.job"):
    jobs = env["llm.generation.job"].create(
        [{"thread_id": thread.id, "generation_inputs": {"prompt": "Hello"}} for _ in range(3)]
    )
    jobs[1:].action_queue()
    jobs[2].action_cancel()
result = sorted(made)
"""

_UNINSTALL = """\
module = env["ir.module.module"].search([("name", "=", {name!r})])
module.button_immediate_uninstall()
"""

_LEFT = """\
name = {name!r}
env["ir.module.module"].search([("name", "=", name)]).state
data = env["ir.model.data"].search([("module", "=", name)]).mapped("complete_name")
models = env["ir.model"].search([]).mapped("model")
env.cr.execute("SELECT relname FROM pg_class WHERE relkind IN ('r', 'v') AND relname LIKE 'llm%%'")
known = {{model.replace(".", "_") for model in models}}
relations = set(env["ir.model.relation"].search([]).mapped("name"))
tables = [row[0] for row in env.cr.fetchall() if row[0] not in known | relations]
result = {{"data": data, "tables": tables}}
"""


def run(lab, tally, name, template="tpl"):
    """Take one module through its life, on a copy of a template.

    On a database with all modules, the others that need it go with it.
    """
    database = f"cycle_{template}_{name}"
    lab.instance.create_database(database, template=template)
    try:
        for title, work in (
            ("installs", lambda: _odoo(lab, database, "-i", name)),
            ("takes data", lambda: _fill(lab, database)),
            ("upgrades", lambda: _odoo(lab, database, "-u", name)),
            ("uninstalls", lambda: _uninstall(lab, database, name)),
            ("leaves nothing", lambda: _check_left(lab, database, name)),
            ("is gone and Odoo starts", lambda: _odoo(lab, database)),
        ):
            if not _phase(lab, tally, database, f"{name} {title} ({template})", work):
                break
    finally:
        lab.instance.drop_database(database)


def _phase(lab, tally, database, title, work):
    """Do one thing; it went well if it says nothing and the log is clean."""
    log = _log(lab, database)
    log.unlink(missing_ok=True)
    try:
        complaint = work()
    except RuntimeError as error:
        complaint = f"{error}\n{tail(log)}"
    if not complaint:
        report = odoo_log.read(log.read_text(errors="replace"), modules.folders())
        complaint = "\n".join(map(str, report.problems))
    return tally.check(not complaint, title, complaint)


def _log(lab, database):
    return lab.folder / f"{database}.log"


def _odoo(lab, database, *arguments):
    log = _log(lab, database)
    arguments = (*arguments, "-d", database, "--stop-after-init", "--no-http")
    status = lab.instance.run(*arguments, log=log)
    ignored = re.search(r"invalid module names, ignored.*", log.read_text(errors="replace"))
    if status or ignored:
        return tail(log)
    return None


def _fill(lab, database):
    lab.instance.code(database, DATA, log=_log(lab, database))


def _uninstall(lab, database, name):
    lab.instance.code(database, _UNINSTALL.format(name=name), log=_log(lab, database))


def _check_left(lab, database, name):
    left = lab.instance.code(database, _LEFT.format(name=name), log=_log(lab, database))
    if any(left.values()):
        return f"left behind: {left}"
    return None
