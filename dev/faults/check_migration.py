"""A database of the public addon for Odoo 18.0 is upgraded, and its jobs end here."""

import json
import time
import urllib.request

import old_tables
from evidence import check_submissions, log_tails
from fake_book import KEY_MARK, marked
from fault_lab import ADMIN, FaultLab
from lib import fault_table, modules, odoo_log
from lib.commands import wait_for
from lib.say import run_main, step
from lib.tally import Tally

GROUPS = ("mixed", "off")
UPGRADE = (
    *("-d", FaultLab.database, "-u", "llm_generate_job", "-i", "llm_fault_provider"),
    *("--stop-after-init", "--no-http"),
)
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
#: model: (enabled, jobs at once, retries by itself, minutes between them)
QUEUES = {
    "busy": ("TRUE", 3, "TRUE", 5),
    "slow": ("TRUE", 2, "FALSE", 20),
    "never": ("FALSE", 4, "FALSE", 1),
    "off": ("FALSE", 7, "TRUE", 5),
}
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


class OldLab(FaultLab):
    """A lab whose database has the family of 18.0 and its tables, and not our module."""

    def add_database(self, name):
        self.instance.create_database(name, ["llm_thread"])
        self.fake.order(job_seconds=1)
        bases = {group: self.fake.url(group) for group in GROUPS}
        source = f"GROUPS = {bases!r}\nKEY = {KEY_MARK!r}\n{DATA}"
        self.known = self.instance.code(name, source)
        self.external = {key: self._submit(key) for key in EXTERNAL}
        for statement in old_tables.statements():
            self.sql(statement, name)
        self._add_rows(name)
        step(f"database {name} is as 18.0 left it")

    def _submit(self, key):
        """Have the provider accept a job, as the old addon had; return its id."""
        url, body = f"{self.fake.url('mixed')}/jobs", json.dumps({"key": marked(key)}).encode()
        with urllib.request.urlopen(urllib.request.Request(url, body), timeout=10) as answer:
            return json.load(answer)["id"]

    def _add_rows(self, name):
        for model, (enabled, slots, retries, minutes) in QUEUES.items():
            self.sql(
                "INSERT INTO llm_generation_queue (model_id, enabled, max_concurrent_jobs,"
                " auto_retry_failed, retry_delay_minutes, create_date) VALUES"
                f" ({self.known[model]['model']}, {enabled}, {slots}, {retries}, {minutes}, now())",
                name,
            )
        self.sql(
            "INSERT INTO mail_message (model, res_id, message_type, body, date)"
            " SELECT 'llm.generation.queue', id, 'comment', 'Note', now()"
            " FROM llm_generation_queue",
            name,
        )
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
            self.sql(
                f"INSERT INTO llm_generation_job ({', '.join(values)})"
                f" VALUES ({', '.join(map(_literal, values.values()))})",
                name,
            )


def _literal(value):
    if value is None:
        return "NULL"
    if isinstance(value, dict):
        value = json.dumps(value)
    return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"


def main():
    tally = Tally()
    with OldLab("migration") as lab:
        before = lab.rows("SELECT * FROM llm_generation_job")
        log = lab.folder / "upgrade.log"
        status = lab.instance.run(*UPGRADE, log=log)
        text = log.read_text(errors="replace")
        report = odoo_log.read(text, modules.folders())
        problems = "\n".join(map(str, report.problems)) or text[-3000:]
        if tally.check(not status and not report.problems, "the upgrade succeeds", problems):
            check_queues(lab, tally)
            check_jobs(lab, tally, {row["name"]: row for row in before})
            check_leftovers(lab, tally)
            check_work(lab, tally)
    return tally.close()


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
    expected = {"busy": 3, "slow": 2, "never": 1, "off": 1}
    same(tally, found, expected, "each model keeps its limit")
    notes = lab.sql("""
        SELECT count(*) FROM mail_message m JOIN llm_generation_queue q ON q.id = m.res_id
        WHERE m.model = 'llm.generation.queue' AND m.body = 'Note'
    """)
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
    data = {"region": "eu", "result_payload": {"text": "Hello"}}
    same(tally, answered["provider_data"], data, "what the provider told is kept")
    same(tally, answered["completed_at"], before["answered"]["completed_at"], "so is its end")
    same(tally, undated["completed_at"], before["undated"]["write_date"], "an end has its date")
    same(tally, undated["error_message"], "It broke.", "an error stays what it was")
    for key, part in {"direct": "upgraded while", "held": "was disabled"}.items():
        tally.check(part in (after[key]["error_message"] or ""), f"{key} says why",
                    str(after[key]["error_message"]))  # fmt: skip
    tokens = [row["webhook_token"] for row in after.values() if row["state"] != "completed"]
    distinct = len({*tokens}) == len(tokens) and all(tokens)
    tally.check(distinct, "no two jobs have the same token")
    turns = (after["first"]["fair_rank"], after["second"]["fair_rank"])
    same(tally, turns, (0, 1), "who came first is first")


def check_leftovers(lab, tally):
    columns = lab.rows("""
        SELECT table_name AS t, column_name AS c FROM information_schema.columns
        WHERE table_name IN ('llm_generation_queue', 'llm_generation_job')
    """)
    names = {(row["t"], row["c"]) for row in columns}
    gone = {
        ("llm_generation_queue", "model_id"),
        ("llm_generation_queue", "last_processed_at"),
        ("llm_generation_queue", "display_name"),
        ("llm_generation_job", "display_name"),
        ("llm_generation_job", "result_payload"),
    }
    tally.check(not names & gone, "the columns of 18.0 are gone", str(names & gone))
    left = lab.sql("""
        SELECT (SELECT count(*) FROM ir_cron WHERE cron_name = 'Old: retry')
            + (SELECT count(*) FROM ir_ui_view WHERE name = 'old.queue.list')
            + (SELECT count(*) FROM pg_class WHERE relname = 'llm_generation_queue_before')
    """)
    same(tally, left, "0", "its scheduled actions, views and tables are gone")
    version = lab.sql("SELECT latest_version FROM ir_module_module WHERE name = 'llm_generate_job'")
    tally.check(version.startswith("19.0."), "the database is of the new version", version)


def check_work(lab, tally):
    """What waited runs, what ran is polled, and nothing else is asked of the provider."""
    lab.fake.order(delay=0.1, job_seconds=0.5)
    since = time.time()
    lab.start_servers(threaded=1)
    lab.pump()
    provider, off = lab.known["busy"]["provider"], lab.known["off"]["provider"]
    ended = wait_for(lambda: not {"queued", "running"} & {*lab.states(provider)}, 60, 0.25)
    tally.check(ended, "nothing is stuck", log_tails(lab.servers))
    jobs = {job["key"]: job for job in lab.jobs(provider)}
    done = {key for key, job in jobs.items() if job["state"] == "completed"}
    same(tally, done, {"first", "second", "answered", *EXTERNAL}, "they are answered")
    check_submissions(lab.fake, tally, [jobs[key] for key in done - {"answered"}], "mixed")
    submitted = set(lab.fake.submissions("mixed"))
    same(tally, submitted, {"first", "second", *EXTERNAL}, "nothing else was submitted")
    same(tally, lab.states(off), {"queued": 1}, "a disabled queue keeps what waits")
    worked = [jobs[key] for key in done - {"answered"}]
    lost = sum(job["state"] != "completed" or not job["answers"] for job in worked)
    calls = lab.fake.submissions("mixed")
    fault_table.hand_over(
        fault_table.Row(
            script="check_migration",
            fault="database of 18.0 upgraded",
            jobs=len(JOBS),
            lost=lost + len(JOBS) - len(jobs) - sum(lab.states(off).values()),
            duplicated=(again := sum(len(found) - 1 for found in calls.values())),
            unexplained=again,
            stuck=sum(job["state"] in {"queued", "running"} for job in jobs.values()),
            recovered=max((job["ended"] for job in worked if job["ended"]), default=since) - since,
        )
    )


if __name__ == "__main__":
    run_main(main)
