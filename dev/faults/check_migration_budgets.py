"""Budgets of 19.0.1.0.0, and what was spent of them, go over to the addon of budgets."""

import old_tables
from addon_upgrade import ROOT, same, upgrade
from fault_lab import ADMIN, FaultLab
from lib import fault_table
from lib.say import run_main, step
from lib.tally import Tally

ADDON = "llm_generate_job_budget"
SPENDING, JOB = "llm_generation_spending", "llm_generation_job"
COLUMNS = {
    "job_id": "integer",
    "day": "date NOT NULL",
    "user_id": "integer REFERENCES res_users ON DELETE CASCADE",
    "company_id": "integer REFERENCES res_company ON DELETE CASCADE",
    "jobs": "integer NOT NULL",
    "tokens": "integer NOT NULL",
    "attempts": "integer NOT NULL",
    "is_open": "boolean",
    "xid": "varchar NOT NULL",
}
INDEXES = {
    "user_idx": "(user_id, day) INCLUDE (jobs, tokens)",
    "company_idx": "(company_id, day) INCLUDE (jobs, tokens)",
    "job_idx": "(job_id) WHERE job_id IS NOT NULL",
}
#: Columns of tables that are of others.
BUDGETS = {
    "res_users": ("llm_daily_jobs", "llm_daily_tokens", "llm_own_budget"),
    "res_company": (
        "llm_daily_jobs",
        "llm_daily_tokens",
        "llm_user_daily_jobs",
        "llm_user_daily_tokens",
    ),
}
#: Fields without a column.
SHOWN = {
    JOB: ("budget_left",),
    "res_users": ("llm_spent_today",),
    "res_config_settings": (*BUDGETS["res_company"], "llm_spent_today"),
}
#: A draft, and one that waits and is paid for already.
DATA = """
type(env["llm.provider"])._get_available_services = lambda self: [("cycle", "Cycle")]
provider = env["llm.provider"].create({"name": "Cycle", "service": "cycle"})
model = env["llm.model"].create({"name": "m", "provider_id": provider.id, "model_use": "chat"})
thread = env["llm.thread"].create({
    "name": "one", "provider_id": provider.id, "model_id": model.id, "user_id": USER,
})
values = {"thread_id": thread.id, "user_id": USER, "generation_inputs": {"prompt": "Hello"}}
jobs = env["llm.generation.job"].create([values, values])
jobs[1].action_queue()
result = jobs.ids
"""
#: What the new code makes of it.
LOOK = """
from odoo.exceptions import UserError
draft, waiting = env["llm.generation.job"].browse(JOBS)
owner, company = draft.user_id, draft.company_id
found = {
    "own": [owner.llm_own_budget, owner.llm_daily_jobs, owner.llm_daily_tokens],
    "company": [company[name] for name in COMPANY],
    "spent": env["llm.generation.spending"].search([]).read(
        ["job_id", "jobs", "tokens", "is_open"], load=None),
    "left": draft.budget_left,
    "filters": env["ir.filters"].search_count([("name", "=", "Spending by user")]),
}
try:
    draft.action_queue()
except UserError as refusal:
    found["refusal"] = str(refusal)
env.cr.rollback()
waiting.action_cancel()
env.cr.commit()
env.invalidate_all()
found["again"] = draft.budget_left
draft.action_queue()
env.cr.commit()
result = {**found, "states": [draft.state, waiting.state]}
"""
UNINSTALL = f"""
env.cr.execute("LOCK ir_module_module IN EXCLUSIVE MODE")  # a vacuum may be at it
env["ir.module.module"].search([("name", "=", "{ADDON}")]).button_immediate_uninstall()
"""


class OldLab(FaultLab):
    """A lab whose database is as version 19.0.1.0.0 left it, which had budgets in its core."""

    def add_database(self, name):
        self.instance.create_database(name, [ROOT])
        self.known = self.instance.code(name, f"USER = {ADMIN}\n{DATA}")
        for statement in (*_table(), *_fields(), *_records(), *_rows(self.known[1])):
            self.sql(statement, name)
        step(f"database {name} is as 19.0.1.0.0 left it")


def _table():
    columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    yield f"CREATE TABLE {SPENDING} (id serial PRIMARY KEY, {columns})"
    yield from old_tables.reflections(SPENDING, COLUMNS)
    for name, what in INDEXES.items():
        yield f"CREATE INDEX {SPENDING}_{name} ON {SPENDING} {what}"
        yield from _constraint(f"{SPENDING}_{name}", SPENDING, "i")
    yield f"UPDATE ir_module_module SET latest_version = '19.0.1.0.0' WHERE name = '{ROOT}'"


def _fields():
    for table, names in BUDGETS.items():
        for name in names:
            kind = "boolean" if name == "llm_own_budget" else "integer"
            yield f"ALTER TABLE {table} ADD COLUMN {name} {kind}"
            yield from old_tables.field(table, table.replace("_", "."), name, kind)
        check = f"{table}_llm_budgets_not_negative"
        yield f"ALTER TABLE {table} ADD CONSTRAINT {check} CHECK (llm_daily_jobs >= 0)"
        yield from _constraint(check, table, "u")
    for table, names in SHOWN.items():
        for name in names:
            yield from old_tables.field(table, table.replace("_", "."), name, "varchar")


def _constraint(name, table, kind):
    made = f"""
        INSERT INTO ir_model_constraint (name, model, module, type)
        SELECT '{name}', m.id, o.id, '{kind}' FROM ir_model m, ir_module_module o
        WHERE m.model = '{table.replace("_", ".")}' AND o.name = '{ROOT}' RETURNING id
    """
    data = old_tables.data(f"constraint_{name}", "ir.model.constraint", "(SELECT id FROM made)")
    yield f"WITH made AS ({made}) {data}"


def _records():
    """Yield what would be removed, or forgotten, were it not handed over."""
    made = {
        "access_llm_generation_spending_system": (
            "ir.model.access", "FALSE", """
            INSERT INTO ir_model_access (name, model_id, active, perm_read, perm_write,
                perm_create, perm_unlink)
            SELECT 'spending', id, TRUE, TRUE, FALSE, FALSE, FALSE FROM ir_model
            WHERE model = 'llm.generation.spending' RETURNING id"""),
        "llm_generation_report_filter_tokens": (
            "ir.filters", "TRUE", """
            INSERT INTO ir_filters (name, model_id, domain, context, sort, active)
            VALUES ('Spending by user', 'llm.generation.report', '[]', '{}', '[]', TRUE)
            RETURNING id"""),
    }  # fmt: skip
    for name, (model, noupdate, insert) in made.items():
        data = old_tables.data(name, model, "(SELECT id FROM made)", noupdate)
        yield f"WITH made AS ({insert}) {data}"


def _rows(job_id):
    yield f"""
        UPDATE res_users SET llm_own_budget = TRUE, llm_daily_jobs = 1, llm_daily_tokens = 0
        WHERE id = {ADMIN}
    """
    yield """
        UPDATE res_company SET llm_daily_jobs = 7, llm_daily_tokens = 0, llm_user_daily_jobs = 5,
            llm_user_daily_tokens = 9000
        WHERE id = 1
    """
    yield f"""
        INSERT INTO {SPENDING} (job_id, day, user_id, company_id, jobs, tokens, attempts, is_open,
            xid)
        VALUES ({job_id}, (now() AT TIME ZONE 'UTC')::date, {ADMIN}, 1, 1, 260, 0, TRUE, '1')
    """


def main():
    tally = Tally()
    with OldLab("budgets") as lab:
        if upgrade(lab, tally, ADDON, SPENDING):
            check_data(lab, tally)
            check_owner(lab, tally)
            check_uninstall(lab, tally)
    return tally.close()


def check_data(lab, tally):
    source = f"JOBS, COMPANY = {lab.known}, {BUDGETS['res_company']}\n{LOOK}"
    found = lab.instance.code(lab.database, source)
    same(tally, found["own"], [True, 1, 0], "a user's own budget is what it was")
    same(tally, found["company"], [7, 0, 5, 9000], "the company's budgets are what they were")
    [spent] = found["spent"]
    spent.pop("id")
    expected = {"job_id": lab.known[1], "jobs": 1, "tokens": 260, "is_open": True}
    same(tally, spent, expected, "what was spent is known")
    same(tally, found["left"], "Left of today's budget: 0 jobs.", "it counts")
    refused = "is 1 jobs a day: 1 are used" in found.get("refusal", "")
    tally.check(refused, "what is beyond the budget is refused", str(found))
    same(tally, found["again"], "Left of today's budget: 1 jobs.", "a cancelled job gives it back")
    same(tally, found["states"], ["queued", "cancelled"], "the jobs go on")
    same(tally, found["filters"], 1, "the view of the analysis is there once")
    fault_table.hand_over(
        fault_table.Row(
            script="check_migration_budgets",
            fault="budgets of 19.0.1.0.0 upgraded",
            jobs=len(lab.known),
            lost=[found["states"][0] != "queued", found["states"][1] != "cancelled"].count(True),
            duplicated=0,
            unexplained=0,
            stuck=0,
            recovered=0.0,
        )
    )


def check_owner(lab, tally):
    """All of it belongs to the addon."""
    state = lab.sql(f"SELECT state FROM ir_module_module WHERE name = '{ADDON}'")
    same(tally, state, "installed", "the addon is installed")
    left = lab.rows(f"""
        SELECT module, name FROM ir_model_data WHERE module = '{ROOT}'
            AND name ~ 'spending|budget|llm_(user_)?daily|spent_today|report_filter_tokens'
    """)
    same(tally, left, [], "no name is left where it was")
    left = lab.rows(f"""
        SELECT c.name FROM ir_model_constraint c JOIN ir_module_module m ON m.id = c.module
        WHERE m.name = '{ROOT}' AND c.name ~ 'spending|budget'
    """)
    same(tally, left, [], "nor a constraint")


def check_uninstall(lab, tally):
    """Whoever uninstalls the addon has nothing left of budgets, and all jobs."""
    lab.instance.code(lab.database, UNINSTALL)
    left = lab.rows(f"""
        SELECT table_name, column_name FROM information_schema.columns
        WHERE table_name = '{SPENDING}' OR column_name ~ '^llm_((user_)?daily|own_budget)'
    """)
    same(tally, left, [], "when it is uninstalled, no table and no column is left")
    left = lab.rows(f"SELECT name FROM ir_model_data WHERE module = '{ADDON}'")
    same(tally, left, [], "nor a name")
    jobs = lab.sql(f"SELECT count(*) FROM {JOB}")
    same(tally, jobs, str(len(lab.known)), "the jobs stay")


if __name__ == "__main__":
    run_main(main)
