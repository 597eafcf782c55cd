"""Databases of the public addon for 18.0 and for 19.0 are upgraded, and their jobs end here.

So is one of 19.0 that a version of ours took over as it was, as their numbers are the same.
"""

import ast
import json
import time
import urllib.request

import old_tables
from evidence import check_submissions, log_tails
from fake_book import KEY_MARK, marked
from fault_lab import ADMIN, FaultLab
from lib import fault_table, modules, odoo_log, paths
from lib.processes import wait_for
from lib.say import halt, run_main, step
from lib.tally import Tally

#: (version of the public addon, whether ours took its tables over as they were)
CASES = (*((version, False) for version in old_tables.VERSIONS), (old_tables.VERSIONS[-1], True))
GROUPS = ("mixed", "off")
OURS = "19.0.1.0.0"  # a version of ours that is below the one that migrates
UPGRADE = (
    *("-u", "llm_generate_job", "-i", "llm_fault_provider"),
    *("--stop-after-init", "--no-http"),
)
OF_MODULE = "WHERE name = 'llm_generate_job'"
#: Two providers, one with two models, and a thread with messages for each job.
DATA = """
type(env["llm.provider"])._get_available_services = lambda self: [("fault", "Fault")]
result = {}
for group, base in GROUPS.items():
    provider = env["llm.provider"].create(
        {"name": group, "service": "fault", "api_base": base, "api_key": KEY}
    )
    names = ("busy", "slow", "never") if group == "mixed" else ("off",)
    models = env["llm.model"].create([
        {"name": name, "provider_id": provider.id, "model_use": "chat"} for name in names
    ])
    for model in models:
        threads = env["llm.thread"].create([
            {"name": f"{model.name} {n}", "provider_id": provider.id, "model_id": model.id,
             "user_id": env.ref("base.user_admin").id}
            for n in range(6)
        ])
        messages = [
            [thread.message_post(body="Hello", llm_role=role).id for role in ("user", "assistant")]
            for thread in threads
        ]
        result[model.name] = {
            "model": model.id, "provider": provider.id,
            "threads": threads.ids, "messages": messages,
        }
"""
#: (model, enabled, jobs at once, retries by itself, minutes between them)
QUEUES = (
    ("busy", "TRUE", 3, "TRUE", 5),
    ("slow", "TRUE", 2, "FALSE", 20),
    ("never", "FALSE", 4, "FALSE", 1),
    ("off", "FALSE", 7, "TRUE", 5),
    ("busy", "FALSE", 9, "TRUE", 50),  # a second of its model was never used
)
#: key of a job: (model, values that differ from those of a job of its state)
JOBS = {
    "draft": ("busy", {"state": "draft", "queued_at": None}),
    "second": ("busy", {"state": "queued", "queued_at": "2026-11-01 10:00:02"}),
    "first": ("busy", {"state": "queued", "queued_at": "2026-11-01 10:00:01"}),
    "external": ("busy", {"state": "running", "started_at": "2026-11-01 10:00:00"}),
    "at the provider": ("slow", {"state": "queued"}),
    "direct": ("slow", {"state": "running", "started_at": "2026-11-01 10:00:00"}),
    "answered": (
        "slow",
        {
            "state": "completed",
            "started_at": "2026-11-01 10:00:05",
            "completed_at": "2026-11-01 10:00:09",
            "duration": 4,
            "queue_duration": 5,
            "provider_data": {"region": "eu"},
            "result_payload": {"text": "Hello"},
        },
    ),
    "undated": ("slow", {"state": "failed", "error_message": "It broke.", "retry_count": 2}),
    "held": ("never", {"state": "queued"}),
    "kept": ("off", {"state": "queued"}),
}
EXTERNAL = ("external", "at the provider")
#: What people may do with what they find after the upgrade.
TO_DO = ("draft", "held", "direct")
WORK = {"first", "second", *EXTERNAL, *TO_DO}
#: (job, user, summary, whether it is still to be done)
ACTIVITIES = (
    ("draft", ADMIN, "Look at it", "TRUE"),
    ("answered", ADMIN, "", "TRUE"),
    ("answered", ADMIN, "Done already", "FALSE"),
    ("undated", None, "Of nobody", "TRUE"),
)
#: What a second upgrade has to leave as it is.
TABLES = (
    *("llm_generation_queue", "llm_generation_job", "llm_generation_attempt", "llm_thread"),
    *("llm_generation_model_limit", "mail_activity", "mail_message", "mail_followers"),
    *("ir_cron", "ir_filters", "ir_ui_menu", "ir_model_access", "ir_act_window", "ir_ui_view"),
)
UPDATED = ("write_date", "arch_prev")  # by Odoo whenever it reads a file
#: A user opens every view and form, has done what was planned, and asks for what did not run.
CLICK = """
from odoo.tests import Form
env = env(user=env.ref("base.user_admin"))
Job, Queue = env["llm.generation.job"], env["llm.generation.queue"]
for model in (Job, Queue):
    model.get_views([(False, kind) for kind in ("list", "kanban", "form", "search")])
    for record in model.search([]):
        Form(record)
module = env["ir.model.data"].sudo().search([("module", "=", "llm_generate_job")])
env["ir.ui.view"].sudo().browse(
    module.filtered(lambda data: data.model == "ir.ui.view").mapped("res_id"))._check_xml()
lost = [d.name for d in module if d.model not in env or not env[d.model].browse(d.res_id).exists()]
activities = env["mail.activity"].search([("user_id", "=", env.uid)], order="id")
result = {"lost": lost, "activities": activities.mapped("summary")}
for activity in activities:
    activity.action_open_document()
    activity.action_feedback("It is done.")
result["left"] = env["mail.activity"].search_count([("user_id", "=", env.uid)])
for job in Job.search([("name", "in", TO_DO)]):
    job.action_retry() if job.state == "failed" else job.action_queue()
"""
CRONS = """
about = [("model_id.model", "=like", "llm.generation.%")]
crons = env["ir.cron"].search(about)
for cron in crons:
    cron.method_direct_trigger()
result = sorted(crons.mapped("code"))
"""


class OldLab(FaultLab):
    """A lab with databases that have the family and the tables of the public addon, and not ours.

    `version` is that of the public addon in the database at hand; `taken` says whether ours was put
    over it without a migration.
    """

    base = "family"

    def add_database(self, name):
        self.instance.create_database(self.base, ["llm_thread"])
        self.fake.order(job_seconds=1)
        bases = {group: self.fake.url(group) for group in GROUPS}
        source = f"GROUPS = {bases!r}\nKEY = {KEY_MARK!r}\n{DATA}"
        self.known = self.instance.code(self.base, source)

    def begin(self, version, *, taken):
        """Make the next database, and have it be the one at hand."""
        for server in self.servers:
            server.stop()
        self.fake.forget()
        self.version, self.taken, self.servers = version, taken, []
        self.database = name = f"of_{version[:2]}{'_taken' * taken}"
        self.instance.create_database(name, template=self.base)
        self.fake.order(job_seconds=1)
        self.external = {key: self._submit(key) for key in EXTERNAL}
        for statement in old_tables.statements(version):
            self.sql(statement)
        self._add_queues(name)
        self._add_jobs(name)
        self._add_mail(name)
        if taken:
            self._take_over()
        step(f"database {name} is as {self} left it")

    def __str__(self):
        return f"{self.version}{' that was taken over' * self.taken}"

    def upgrade(self, log):
        """Upgrade the database at hand; return the status, with the log in a file."""
        return self.instance.run("-d", self.database, *UPGRADE, log=log)

    def _take_over(self):
        """Have our tables made of theirs, as when the version was no other one."""
        here = manifest_version()
        self.sql(f"UPDATE ir_module_module SET latest_version = '{here}' {OF_MODULE}")
        self.upgrade(self.folder / "taken.log")
        self.sql(f"UPDATE ir_module_module SET latest_version = '{OURS}' {OF_MODULE}")
        if self.sql("SELECT count(provider_id) FROM llm_generation_queue") != "0":
            halt("the tables were not taken over as they were.")

    def _submit(self, key):
        """Have the provider accept a job, as the old addon had; return its id."""
        url, body = f"{self.fake.url('mixed')}/jobs", json.dumps({"key": marked(key)}).encode()
        with urllib.request.urlopen(urllib.request.Request(url, body), timeout=10) as answer:
            return json.load(answer)["id"]

    def _add_queues(self, name):
        for model, enabled, slots, retries, minutes in QUEUES:
            self.sql(
                "INSERT INTO llm_generation_queue (model_id, enabled, max_concurrent_jobs,"
                " auto_retry_failed, retry_delay_minutes, display_name, create_date) VALUES"
                f" ({self.known[model]['model']}, {enabled}, {slots}, {retries}, {minutes},"
                f" '{model} Queue', now())",
                name,
            )
        self.sql(
            "INSERT INTO mail_message (model, res_id, message_type, body, date)"
            " SELECT 'llm.generation.queue', id, 'comment', 'Note', now()"
            " FROM llm_generation_queue",
            name,
        )

    def _add_jobs(self, name):
        counts = {}
        for key, (model, values) in JOBS.items():
            number = counts[model] = counts.get(model, -1) + 1
            known = self.known[model]
            values = {
                "name": key,
                "thread_id": known["threads"][number],
                "provider_id": known["provider"],
                "model_id": known["model"],
                "input_message_id": known["messages"][number][0],
                "generation_inputs": {"prompt": marked(key)},
                "queued_at": "2026-11-01 10:00:00",
                "create_date": "2026-11-01 09:00:00",
                "write_date": "2026-11-01 11:00:00",
                "retry_count": 0,
                "max_retries": 3,
                "user_id": ADMIN,
                "company_id": 1,
                "external_job_id": self.external.get(key),
                **values,
            }
            if key == "answered":
                values["output_message_id"] = known["messages"][number][1]
            if self.version.startswith("19.0"):
                values.pop("result_payload", None)
            self.sql(
                f"INSERT INTO llm_generation_job ({', '.join(values)})"
                f" VALUES ({', '.join(map(_literal, values.values()))})",
                name,
            )

    def _add_mail(self, name):
        """Have what people and Odoo wrote on jobs, planned and followed, and a filter of theirs."""
        job = "(SELECT id FROM llm_generation_job WHERE name = '{}')"
        for key, user, summary, active in ACTIVITIES:
            self.sql(
                "INSERT INTO mail_activity (res_model, res_model_id, res_id, res_name, user_id,"
                " summary, active, date_deadline, activity_type_id)"
                f" SELECT model, id, {job.format(key)}, '{key}', {_literal(user)},"
                f" '{summary}', {active}, now(), (SELECT min(id) FROM mail_activity_type)"
                " FROM ir_model WHERE model = 'llm.generation.job'",
                name,
            )
        for kind in ("comment", "notification"):
            self.sql(
                "INSERT INTO mail_message (model, res_id, message_type, body, date) VALUES"
                f" ('llm.generation.job', {job.format('undated')}, '{kind}', 'A {kind}', now())",
                name,
            )
        self.sql(
            "INSERT INTO mail_followers (res_model, res_id, partner_id)"
            " SELECT 'llm.generation.job', j.id, u.partner_id FROM llm_generation_job j"
            " JOIN res_users u ON u.id = j.user_id",
            name,
        )
        self.sql(
            "INSERT INTO ir_attachment (name, type, res_model, res_id) VALUES"
            f" ('a.txt', 'binary', 'llm.generation.job', {job.format('undated')})",
            name,
        )
        for field in ("activity_ids", "thread_id"):
            self.sql(
                "INSERT INTO ir_filters (name, model_id, domain, context, sort, active) VALUES"
                f" ('{field}', 'llm.generation.job', '[(''{field}'', ''!='', False)]', '{{}}',"
                " '[]', TRUE)",
                name,
            )
        self.sql("UPDATE llm_thread SET is_generating = TRUE", name)


def _literal(value):
    if value is None:
        return "NULL"
    if isinstance(value, dict):
        value = json.dumps(value)
    return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"


def manifest_version():
    return ast.literal_eval((paths.ROOT / "__manifest__.py").read_text())["version"]


def main():
    tally = Tally()
    with OldLab("migration") as lab:
        for version, taken in CASES:
            lab.begin(version, taken=taken)
            before = lab.rows("SELECT * FROM llm_generation_job")
            if upgrade(lab, tally):
                check_queues(lab, tally)
                check_jobs(lab, tally, {row["name"]: row for row in before})
                check_leftovers(lab, tally)
                check_mail(lab, tally)
                check_again(lab, tally)
                check_clicks(lab, tally)
                check_work(lab, tally)
                check_crons(lab, tally)
    return tally.close()


def upgrade(lab, tally, title="the upgrade succeeds"):
    log = lab.folder / f"{lab.database}-{'-'.join(title.split())}.log"
    status = lab.upgrade(log)
    text = log.read_text(errors="replace")
    report = odoo_log.read(text, modules.folders())
    problems = "\n".join(map(str, report.problems)) or text[-3000:]
    good = not status and not report.problems
    return tally.check(good, f"{lab}: {title}", problems)


def same(tally, found, expected, title):
    tally.check(found == expected, title, f"found {found}\nexpected {expected}")


def check_queues(lab, tally):
    queues = lab.rows("""
        SELECT p.name, q.enabled, q.max_concurrent_jobs, q.auto_retry_failed, q.retry_delay_minutes
        FROM llm_generation_queue q JOIN llm_provider p ON p.id = q.provider_id ORDER BY p.name
    """)
    found = {row.pop("name"): tuple(row.values()) for row in queues}
    expected = {"mixed": (True, 5, True, 20), "off": (False, 7, True, 5)}
    same(tally, found, expected, "a provider has one queue, with the slots of its models")
    limits = lab.rows("""
        SELECT m.name, l.max_concurrent_jobs AS slots FROM llm_generation_model_limit l
        JOIN llm_model m ON m.id = l.model_id
        JOIN llm_generation_queue q ON q.id = l.queue_id AND q.provider_id = m.provider_id
    """)
    found = {row["name"]: row["slots"] for row in limits}
    expected = {"busy": 3, "slow": 2, "never": 1, "off": 7}
    same(tally, found, expected, "each model keeps its limit")
    notes = lab.sql("""
        SELECT count(*) FROM mail_message m JOIN llm_generation_queue q ON q.id = m.res_id
        WHERE m.model = 'llm.generation.queue' AND m.body = 'Note'
    """)
    constraints = lab.sql("""
        SELECT count(*) FROM information_schema.columns
        WHERE table_name = 'llm_generation_queue' AND column_name = 'provider_id'
            AND is_nullable = 'NO'
    """)
    same(tally, constraints, "1", "no queue can be without a provider")
    same(tally, notes, str(len(QUEUES)), "what was noted on queues is kept")


def check_jobs(lab, tally, before):
    after = {row["name"]: row for row in lab.rows("SELECT * FROM llm_generation_job")}
    same(tally, sorted(after), sorted(before), "no job is lost")
    kept = ("id", "thread_id", "model_id", "provider_id", "user_id", "input_message_id",
            "output_message_id", "generation_inputs", "queued_at", "external_job_id", "create_date",
            "duration", "queue_duration", "retry_count", "max_retries")  # fmt: skip
    changed = [
        (key, name, before[key][name], after[key][name])
        for key in before
        for name in kept
        if before[key][name] != after[key][name] and (key, name) != ("direct", "duration")
    ]
    tally.check(not changed, "dates, inputs and messages are kept", str(changed))
    states = {key: after[key]["state"] for key in after}
    expected = {key: values["state"] for key, (_model, values) in JOBS.items()}
    expected |= {"at the provider": "running", "direct": "failed", "held": "draft"}
    same(tally, states, expected, "each job is in the state that it can go on from")
    answered, undated = after["answered"], after["undated"]
    data = {"region": "eu"}
    if lab.version.startswith("18.0"):
        data["result_payload"] = {"text": "Hello"}
    same(tally, answered["provider_data"], data, "what the provider told is kept")
    same(tally, answered["completed_at"], before["answered"]["completed_at"], "so is its end")
    same(tally, undated["completed_at"], before["undated"]["write_date"], "an end has its date")
    same(tally, undated["error_message"], "It broke.", "an error stays what it was")
    for key, part in {"direct": "upgraded while", "held": "was paused"}.items():
        tally.check(part in (after[key]["error_message"] or ""), f"{key} says why",
                    str(after[key]["error_message"]))  # fmt: skip
    tokens = [row["webhook_token"] for row in after.values()]
    distinct = len({*tokens}) == len(tokens) and all(tokens)
    tally.check(distinct and min(map(len, tokens)) > 40, "each job has a token of its own")
    polled = {key for key in after if after[key]["next_poll_at"]}
    same(tally, polled, {*EXTERNAL}, "the provider is asked about what it runs")
    turns = (after["first"]["fair_rank"], after["second"]["fair_rank"])
    same(tally, turns, (0, 1), "who came first is first")


def check_leftovers(lab, tally):
    columns = lab.rows("""
        SELECT table_name AS t, column_name AS c FROM information_schema.columns
        WHERE table_name IN ('llm_generation_queue', 'llm_generation_job', 'llm_thread')
    """)
    names = {(row["t"], row["c"]) for row in columns}
    gone = {
        ("llm_generation_queue", "model_id"),
        ("llm_generation_queue", "last_processed_at"),
        ("llm_generation_queue", "display_name"),
        ("llm_generation_job", "display_name"),
        ("llm_generation_job", "result_payload"),
        ("llm_generation_job", "write_uid"),
        ("llm_thread", "is_generating"),
    }
    tally.check(not names & gone, "their columns are gone", str(names & gone))
    crons = ", ".join(f"'{name}'" for name in old_tables.CRONS)
    views = ", ".join(f"'{name}'" for name in old_tables.VIEWS)
    left = lab.rows(f"""
        SELECT cron_name AS name FROM ir_cron WHERE cron_name IN ({crons})
        UNION SELECT name FROM ir_ui_view WHERE name IN ({views}, 'made_by_a_user')
        UNION SELECT name->>'en_US' FROM ir_ui_menu WHERE name->>'en_US' = 'Old queues'
        UNION SELECT name->>'en_US' FROM ir_act_window WHERE name->>'en_US' = 'Old queues'
        UNION SELECT relname FROM pg_class WHERE relname = 'llm_generation_queue_before'
        UNION SELECT 'is a mail.thread' FROM ir_model
            WHERE model = 'llm.generation.job' AND (is_mail_thread OR is_mail_activity)
        UNION SELECT 'a right of ' || m.model FROM ir_model_access a
            JOIN ir_model m ON m.id = a.model_id JOIN res_groups g ON g.id = a.group_id
            JOIN ir_model_data d ON d.model = 'res.groups' AND d.res_id = g.id
            WHERE d.module = 'base' AND d.name = 'group_user' AND (a.perm_unlink
                AND m.model = 'llm.generation.job'
                OR a.perm_write AND m.model = 'llm.generation.queue')
    """)
    same(tally, left, [], "their actions, views, menus, rights and tables are gone")
    version = lab.sql(f"SELECT latest_version FROM ir_module_module {OF_MODULE}")
    same(tally, version, manifest_version(), "the database is of the new version")


def check_mail(lab, tally):
    left = lab.sql("""
        SELECT (SELECT count(*) FROM mail_activity WHERE res_model = 'llm.generation.job')
            + (SELECT count(*) FROM mail_message WHERE model = 'llm.generation.job')
            + (SELECT count(*) FROM mail_followers WHERE res_model = 'llm.generation.job')
    """)
    same(tally, left, "0", "nothing of mail is left with jobs")
    found = lab.rows("""
        SELECT m.body, m.llm_role FROM llm_generation_job j
        JOIN mail_message m ON m.model = 'llm.thread' AND m.res_id = j.thread_id
        WHERE j.name = 'undated' AND m.body LIKE 'A %'
        UNION SELECT a.name, NULL FROM llm_generation_job j
        JOIN ir_attachment a ON a.res_model = 'llm.thread' AND a.res_id = j.thread_id
        WHERE j.name = 'undated' ORDER BY body
    """)
    expected = [{"body": body, "llm_role": None} for body in ("A comment", "a.txt")]
    same(tally, found, expected, "what people wrote is in the conversation, and no model reads it")
    if not lab.taken:  # by then nobody knows which fields there were
        active = lab.sql(
            "SELECT name FROM ir_filters WHERE model_id = 'llm.generation.job' AND active"
        )
        same(tally, active, "thread_id", "a filter by what is gone is archived, and no other one")


def snapshot(lab):
    rows = {table: lab.rows(f"SELECT * FROM {table} ORDER BY id") for table in TABLES}
    return {
        (table, row["id"]): {key: value for key, value in row.items() if key not in UPDATED}
        for table in TABLES
        for row in rows[table]
    }


def check_again(lab, tally):
    """All scripts run once more, and find nothing to do."""
    before = snapshot(lab)
    lab.sql(f"UPDATE ir_module_module SET latest_version = '{OURS}' {OF_MODULE}")
    if upgrade(lab, tally, "the upgrade succeeds again"):
        after = snapshot(lab)
        changed = [
            (key, [name for name in row if row[name] != after.get(key, {}).get(name)])
            for key, row in before.items()
            if row != after.get(key)
        ]
        same(tally, changed, [], "it changes nothing")
        same(tally, sorted(after.keys() - before.keys()), [], "it adds nothing")


def check_clicks(lab, tally):
    found = lab.instance.code(lab.database, f"TO_DO = {TO_DO!r}\n{CLICK}")
    same(tally, found["lost"], [], "no name of the module stands for nothing")
    same(
        tally, found["activities"], ["draft: Look at it", "answered"], "activities are their user's"
    )
    same(tally, found["left"], 0, "they can be closed")


def check_work(lab, tally):
    """What waited runs, what ran is polled, and nothing else is asked of the provider."""
    lab.fake.order(delay=0.1, job_seconds=0.5)
    since = time.time()
    lab.start_servers(threaded=1)
    lab.pump()
    provider, off = lab.known["busy"]["provider"], lab.known["off"]["provider"]
    ended = wait_for(lambda: not {"queued", "running"} & {*lab.states(provider)}, 60, 0.25)
    tally.check(ended, "nothing is stuck", log_tails(lab.servers))
    # The others ended long ago, and are cleaned up at any time.
    jobs = {job["key"]: job for job in lab.jobs(provider) if job["key"] in WORK}
    done = {key for key, job in jobs.items() if job["state"] == "completed" and job["answers"]}
    same(tally, done, WORK, "they are answered")
    check_submissions(lab.fake, tally, [*jobs.values()], "mixed")
    calls = lab.fake.submissions("mixed")
    same(tally, set(calls), WORK, "nothing else was submitted")
    kept = lab.states(off)
    same(tally, kept, {"queued": 1}, "a disabled queue keeps what waits")
    fault_table.hand_over(
        fault_table.Row(
            script="check_migration",
            fault=f"database of {lab} upgraded",
            jobs=len(WORK) + 1,
            lost=len(WORK - done) + (kept != {"queued": 1}),
            duplicated=(again := sum(len(found) - 1 for found in calls.values())),
            unexplained=again,
            stuck=sum(job["state"] in {"queued", "running"} for job in jobs.values()),
            recovered=max((job["ended"] for job in jobs.values() if job["ended"]), default=since)
            - since,
        )
    )


def check_crons(lab, tally):
    crons = lab.instance.code(lab.database, CRONS)
    same(tally, len(crons), 4, "the scheduled actions run")
    left = {row["name"] for row in lab.rows("SELECT name FROM llm_generation_job")}
    same(tally, left, JOBS.keys() - {"answered", "undated"}, "what ended long ago is cleaned up")


if __name__ == "__main__":
    run_main(main)
