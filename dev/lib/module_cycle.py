"""Install a module alone, fill it with data, upgrade it, uninstall it, and look what is left."""

import re

from . import modules, odoo_log
from .odoo_tests import tail

# What a used database has, as far as the modules that are installed know it.
DATA = """\
if "llm.provider" in env:
    if not env["llm.provider"]._get_available_services():
        # No module that brings a service is there: the database has kept data of one.
        type(env["llm.provider"])._get_available_services = lambda self: [("cycle", "Cycle")]
    service = env["llm.provider"]._get_available_services()[0][0]
    provider = env["llm.provider"].create(
        {"name": "Cycle", "service": service, "api_key": "secret"}
    )
    model = env["llm.model"].create(
        {"name": "cycle-1", "provider_id": provider.id, "model_use": "chat"}
    )
    env["res.partner"].search([], limit=1).message_post(body="Hello")
if "llm.tool" in env:
    env["llm.tool"].search([], limit=1).copy({"name": "cycle_tool"})
if "llm.thread" in env:
    thread = env["llm.thread"].create(
        {"name": "Cycle", "provider_id": provider.id, "model_id": model.id}
    )
    for role in ("user", "assistant"):
        thread.message_post(body="Hello", llm_role=role)
if "llm.generation.spending" in env:
    env.company.write({"llm_daily_jobs": 1000, "llm_user_daily_tokens": 10**6})
    env.user.write({"llm_own_budget": True, "llm_daily_jobs": 1000})
if "llm.generation.job" in env:
    jobs = env["llm.generation.job"].create(
        [{"thread_id": thread.id, "generation_inputs": {"prompt": "Hello"}} for _ in range(3)]
    )
    jobs[1:].action_queue()
    jobs[2].action_cancel()
if "llm.generation.batch" in env:
    batches = env["llm.generation.batch"]
    for is_economy in (False, True):
        batches += env["llm.generation.job"].create_batch(
            ["Hello", "Hello"], model=model, is_economy=is_economy
        )
    batches[0].action_cancel()
    action = env["ir.actions.server"].create({
        "name": "Cycle", "state": "llm_generate",
        "model_id": env["ir.model"]._get_id("res.partner"),
        "llm_model_id": model.id, "llm_prompt": "Hello",
    })
    batches[1].action_id = action
"""
# Odoo takes that lock or gives up at once; PostgreSQL's own vacuum lets go for who waits.
_UNINSTALL = """\
env.cr.execute("LOCK ir_module_module IN EXCLUSIVE MODE")
module = env["ir.module.module"].search([("name", "=", {name!r})])
module.button_immediate_uninstall()
"""
_LEFT = """\
data = env["ir.model.data"].search([("module", "=", {name!r})]).mapped("complete_name")
models = env["ir.model"].search([]).mapped("model")
env.cr.execute("SELECT relname FROM pg_class WHERE relkind IN ('r', 'v') AND relname LIKE 'llm%%'")
known = {{model.replace(".", "_") for model in models}}
relations = set(env["ir.model.relation"].search([]).mapped("name"))
tables = [row[0] for row in env.cr.fetchall() if row[0] not in known | relations]
result = data + tables
"""


def run(lab, tally, name, template="tpl"):
    """Take one module through its life, on a copy of a template.

    On a database with all modules, the others that need it go with it.
    """
    database = f"cycle_{template}_{name}"
    log = lab.folder / f"{database}.log"

    def odoo(*arguments):
        arguments = (*arguments, "-d", database, "--stop-after-init", "--no-http")
        return lab.instance.run(*arguments, log=log) and f"Odoo failed\n{tail(log)}"

    def code(source):
        return lab.instance.code(database, source.format(name=name), log=log)

    lab.instance.create_database(database, template=template)
    try:
        for title, work in (
            ("installs", lambda: odoo("-i", name)),
            ("takes data", lambda: lab.instance.code(database, DATA, log=log)),
            ("upgrades", lambda: odoo("-u", name)),
            ("uninstalls", lambda: code(_UNINSTALL)),
            ("leaves nothing, and Odoo starts", lambda: code(_LEFT)),
        ):
            log.unlink(missing_ok=True)
            if not tally.check(*_outcome(f"{name} {title} ({template})", work, log)):
                break
    finally:
        lab.instance.drop_database(database)


def _outcome(title, work, log):
    """Do one thing; it went well if it says nothing and the log is clean."""
    try:
        complaint = work()
    except RuntimeError as error:
        complaint = f"{error}\n{tail(log)}"
    text = log.read_text(errors="replace")
    if ignored := re.search(r"invalid module names, ignored.*", text):
        complaint = complaint or ignored[0]
    complaint = complaint or "\n".join(map(str, odoo_log.read(text, modules.folders()).problems))
    return not complaint, title, str(complaint)
