"""Groups of jobs, economy jobs and server actions of 19.0.1.0.0 go over to the addon of batches.

Then economy jobs of the addon as it was before it knew batches of providers.
"""

import old_tables
from addon_upgrade import ROOT, UPGRADE, same, upgrade
from fault_lab import ADMIN, FaultLab
from lib import fault_table
from lib.say import run_main, step
from lib.tally import Tally

ADDON = "llm_generate_job_batch"
GROUP, JOB, ACTION = "llm_generation_group", "llm_generation_job", "ir_act_server"
COLUMNS = {
    "name": "varchar NOT NULL",
    "user_id": "integer NOT NULL REFERENCES res_users ON DELETE CASCADE",
    "company_id": "integer REFERENCES res_company",
    "done_at": "timestamp",
    "told_at": "timestamp",
    "action_id": "integer REFERENCES ir_act_server ON DELETE SET NULL",
    "hook_model": "varchar",
    "hook_ids": "jsonb",
    "hook_method": "varchar",
}
#: (table, column, model, type, model that it points to)
FURTHER = (
    (JOB, "group_id", "llm.generation.job", f"integer REFERENCES {GROUP} ON DELETE SET NULL",
     "llm.generation.group"),
    (JOB, "is_economy", "llm.generation.job", "boolean", None),
    (ACTION, "llm_model_id", "ir.actions.server", "integer REFERENCES llm_model", "llm.model"),
    (ACTION, "llm_prompt", "ir.actions.server", "text", None),
    (ACTION, "llm_target", "ir.actions.server", "varchar", None),
    (ACTION, "llm_field_id", "ir.actions.server", "integer REFERENCES ir_model_fields",
     "ir.model.fields"),
    (ACTION, "llm_economy", "ir.actions.server", "boolean", None),
)  # fmt: skip
#: A thread with a job for each of these, and a user's filters.
DATA = """
type(env["llm.provider"])._get_available_services = lambda self: [("cycle", "Cycle")]
provider = env["llm.provider"].create({"name": "Cycle", "service": "cycle"})
model = env["llm.model"].create({"name": "m", "provider_id": provider.id, "model_use": "chat"})
threads = env["llm.thread"].create([
    {"name": name, "provider_id": provider.id, "model_id": model.id, "user_id": USER}
    for name in ("one", "two", "three", "alone")
])
jobs = env["llm.generation.job"].create([
    {"thread_id": thread.id, "user_id": USER, "generation_inputs": {"prompt": "Hello"}}
    for thread in threads
])
jobs[:2].action_queue()
jobs[2].action_cancel()
env["ir.filters"].create({
    "name": "By group", "model_id": "llm.generation.job", "context": "{'group_by': ['group_id']}",
    "user_ids": [(6, 0, [USER])],
})
result = {
    "jobs": jobs.ids, "model": model.id, "partner": env["res.partner"].search([], limit=1).id,
    "about": env["ir.model"]._get_id("res.partner"),
    "field": env["ir.model.fields"]._get("res.partner", "comment").id,
}
"""
#: What the new code makes of it.
LOOK = """
batch = env["llm.generation.batch"].search([])
names = {"name", "user_id", "callback_model", "callback_ids", "callback_method", "done_at"}
said, Partner = [], type(env["res.partner"])
Partner.greeted = lambda partners, batch: said.append((partners.ids, batch.id))
jobs = env["llm.generation.job"].browse(JOBS)
before = {"batches": batch.read(sorted(names), load=None), "count": batch.job_count}
before |= {"batch": jobs.mapped("batch_id").ids, "economy": jobs.mapped("is_economy")}
before |= {"saved": env["ir.filters"].search([("name", "=", "By group")]).context}
action = env["ir.actions.server"].search([("state", "=", "llm_generate")])
fields = ["name", "llm_model_id", "llm_prompt", "llm_target", "llm_field_id", "llm_economy"]
before |= {"action": action.read(fields, load=None), "of_batch": batch.action_id.id == action.id}
before |= {"rules": env["ir.rule"].search_count([("model_id.model", "=", "llm.generation.batch")])}
batch.action_cancel()
env["llm.generation.engine"]._tell_done()
env.cr.commit()
result = {**before, "state": batch.state, "said": said}
"""


#: What the addon had not when it knew no batches of providers.
LANE = {
    JOB: ("batch_lane", "batch_priced", "provider_batch_id", "unfit_output"),
    "llm_generation_queue": (*("uses_batches", "batch_jobs", "batch_minutes", "batch_tokens"),),
}
#: What the new code makes of its jobs.
LOOK_AT_LANE = """
jobs = env["llm.generation.job"].browse(JOBS)
queue = env["llm.generation.queue"]._get_or_create_queue(jobs.provider_id)
names = ["uses_batches", "batch_jobs", "batch_minutes", "batch_tokens", "batches_paused_until"]
[settings] = queue.read(names)
settings.pop("id")
type(env["llm.provider"])._takes_batches = lambda self: True
before = [[job.state, job.is_economy, str(job.scheduled_at), job.batch_lane] for job in jobs]
queue.uses_batches = True
result = {
    "settings": settings, "before": before, "after": jobs.mapped("batch_lane"),
    "tokens": env["llm.generation.report"]._read_group([], [], ["batch_tokens:sum"])[0][0],
}
"""
SCHEDULED = "2999-01-01 00:00:00"


class LabWithoutLane(FaultLab):
    """A lab whose database has the addon as it was before, with economy jobs that wait."""

    def add_database(self, name):
        self.instance.create_database(name, [ROOT, ADDON])
        self.known = self.instance.code(name, f"USER = {ADMIN}\n{DATA}")
        waiting = ",".join(map(str, self.known["jobs"][:2]))
        self.sql(f"""
            UPDATE {JOB} SET is_economy = TRUE, is_scheduled = TRUE, scheduled_at = '{SCHEDULED}'
            WHERE id IN ({waiting})
        """, name)  # fmt: skip
        for table, columns in LANE.items():
            dropped = ", ".join(f"DROP COLUMN {column} CASCADE" for column in columns)
            self.sql(f"ALTER TABLE {table} {dropped}", name)
        self.sql("DROP TABLE llm_generation_provider_batch CASCADE", name)
        step(f"database {name} is as one without batches of providers")


class OldLab(FaultLab):
    """A lab whose database is as version 19.0.1.0.0 left it, which had batches in its core."""

    def add_database(self, name):
        self.instance.create_database(name, [ROOT])
        self.known = self.instance.code(name, f"USER = {ADMIN}\n{DATA}")
        for statement in (*_tables(), *_records()):
            self.sql(statement, name)
        self._add_rows(name)
        step(f"database {name} is as 19.0.1.0.0 left it")

    def _add_rows(self, name):
        known = self.known
        self.sql(f"""
            WITH action AS (
                INSERT INTO ir_act_server (name, model_id, state, type, usage,
                    binding_type, llm_model_id, llm_prompt, llm_target, llm_field_id, llm_economy)
                VALUES ('{{"en_US": "Describe"}}', {known["about"]}, 'llm_generate',
                    'ir.actions.server', 'ir_actions_server', 'action', {known["model"]},
                    'Who is it?', 'field', {known["field"]}, TRUE)
                RETURNING id)
            INSERT INTO {GROUP} (name, user_id, company_id, action_id, hook_model, hook_ids,
                hook_method)
            SELECT 'Letters', {ADMIN}, 1, id, 'res.partner', '[{known["partner"]}]', 'greeted'
            FROM action
        """, name)  # fmt: skip
        grouped = ",".join(map(str, known["jobs"][:3]))
        self.sql(f"""
            UPDATE {JOB} SET group_id = (SELECT id FROM {GROUP}), is_economy = TRUE
            WHERE id IN ({grouped})
        """, name)  # fmt: skip


def _tables():
    columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    dates = "create_uid integer, create_date timestamp, write_uid integer, write_date timestamp"
    yield f"CREATE TABLE {GROUP} (id serial PRIMARY KEY, {columns}, {dates})"
    yield f"CREATE INDEX {GROUP}__user_id_index ON {GROUP} (user_id)"
    yield from old_tables.reflections(GROUP, COLUMNS)
    for table, name, model, kind, relation in FURTHER:
        yield f"ALTER TABLE {table} ADD COLUMN {name} {kind}"
        yield from old_tables.field(model.replace(".", "_"), model, name, kind, relation)
    yield f"CREATE INDEX {JOB}__group_id_index ON {JOB} (group_id)"
    yield f"UPDATE ir_module_module SET latest_version = '19.0.1.0.0' WHERE name = '{ROOT}'"


def _records():
    """Yield what would be removed, or forgotten, were it not handed over."""
    made = {
        "llm_generation_group_rule_user": (
            "ir.rule", "TRUE", """
            INSERT INTO ir_rule (name, model_id, domain_force, active, "global", perm_read,
                perm_write, perm_create, perm_unlink)
            SELECT 'Own groups', id, '[(''user_id'', ''='', user.id)]', TRUE, TRUE, TRUE, TRUE,
                TRUE, TRUE
            FROM ir_model WHERE model = 'llm.generation.group' RETURNING id"""),
        "llm_generation_group_action": (
            "ir.actions.act_window", "FALSE", """
            INSERT INTO ir_act_window (name, type, res_model, view_mode, path, binding_type,
                "limit", target, context, domain)
            VALUES ('{"en_US": "Groups"}', 'ir.actions.act_window', 'llm.generation.group',
                'list,form', 'llm-generation-groups', 'action', 80, 'current', '{}', '[]')
            RETURNING id"""),
        "selection__ir_actions_server__state__llm_generate": (
            "ir.model.fields.selection", "FALSE", """
            INSERT INTO ir_model_fields_selection (field_id, value, name, sequence)
            SELECT id, 'llm_generate', '{"en_US": "Generate with LLM"}', 9 FROM ir_model_fields
            WHERE model = 'ir.actions.server' AND name = 'state' RETURNING id"""),
    }  # fmt: skip
    for name, (model, noupdate, insert) in made.items():
        data = old_tables.data(name, model, "(SELECT id FROM made)", noupdate)
        yield f"WITH made AS ({insert}) {data}"


def main():
    tally = Tally()
    with OldLab("batches") as lab:
        if upgrade(lab, tally, ADDON, GROUP):
            check_data(lab, tally)
            check_owner(lab, tally)
    with LabWithoutLane("lane") as lab:
        check_lane(lab, tally)
    return tally.close()


def check_lane(lab, tally):
    log = lab.folder / "upgrade.log"
    status = lab.instance.run(*UPGRADE, log=log)
    tally.check(not status, "the upgrade to batches of providers succeeds", log.read_text()[-3000:])
    jobs = lab.known["jobs"]
    found = lab.instance.code(lab.database, f"JOBS = {jobs}\n{LOOK_AT_LANE}")
    settings = {
        "uses_batches": False,
        "batch_jobs": 1000,
        "batch_minutes": 15,
        "batch_tokens": 0,
        "batches_paused_until": False,
    }
    same(tally, found["settings"], settings, "nothing is submitted until somebody says so")
    kept = [["queued", True, SCHEDULED, False]] * 2
    same(tally, found["before"][:2], kept, "economy jobs wait as before")
    same(tally, found["after"], [True, True, False, False], "they gather once it is switched on")
    same(tally, found["tokens"], 0, "the analysis has none at batch price")


def check_data(lab, tally):
    known = lab.known
    found = lab.instance.code(lab.database, f"JOBS = {known['jobs']}\n{LOOK}")
    [batch] = found["batches"]
    number = batch.pop("id")
    callback = {
        "callback_ids": [known["partner"]],
        "callback_method": "greeted",
        "callback_model": "res.partner",
    }
    expected = {"name": "Letters", "user_id": ADMIN, "done_at": False, **callback}
    same(tally, batch, expected, "the batch is what the group was")
    same(tally, found["batch"], [number], "its jobs are in it")
    same(tally, found["economy"], [True, True, True, False], "they are of economy still")
    same(tally, found["count"], 3, "they are counted")
    [action] = found["action"]
    action.pop("id")
    expected = {"name": "Describe", "llm_model_id": known["model"], "llm_prompt": "Who is it?",
                "llm_target": "field", "llm_field_id": known["field"],
                "llm_economy": True}  # fmt: skip
    same(tally, action, expected, "the server action is what it was")
    tally.check(found["of_batch"], "the batch knows its server action")
    same(tally, found["saved"], "{'group_by': ['batch_id']}", "a user's filter finds the field")
    same(tally, found["rules"], 3, "its rules are there, once each")
    same(tally, found["state"], "done", "it can be ended")
    same(tally, found["said"], [[[known["partner"]], number]], "and calls what it was to call")
    lost = 3 - found["count"]
    fault_table.hand_over(
        fault_table.Row(
            script="check_migration_batches",
            fault="groups of 19.0.1.0.0 upgraded",
            jobs=len(known["jobs"]),
            lost=lost,
            duplicated=0,
            unexplained=0,
            stuck=0,
            recovered=0.0,
        )
    )


def check_owner(lab, tally):
    """All of it belongs to the addon: whoever uninstalls that has nothing left."""
    state = lab.sql(f"SELECT state FROM ir_module_module WHERE name = '{ADDON}'")
    same(tally, state, "installed", "the addon is installed")
    left = lab.rows(f"""
        SELECT module, name FROM ir_model_data
        WHERE name ~ 'llm_generation_group|hook_(model|ids|method)|__group_id$' AND module ~ '^llm'
           OR module = '{ROOT}' AND name ~ 'economy|llm_prompt|llm_target|llm_generate$'
    """)
    same(tally, left, [], "no name is left where it was")
    named = lab.sql("""
        SELECT count(*) FROM pg_class WHERE relname ~ 'llm_generation_group|job__group_'
    """)
    same(tally, named, "0", "no table, sequence or index has the old name")


if __name__ == "__main__":
    run_main(main)
