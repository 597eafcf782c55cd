"""A laboratory with a provider to fail with, servers to kill, and jobs to lose."""

import json
import os
import random
import signal
import sys
import time
import urllib.request
from pathlib import Path

from fake_book import KEY_MARK, PROMPT_MARK, marked
from lib import fault_scripts, marks, processes
from lib.lab import Lab, environment, insist
from lib.processes import wait_for
from lib.say import halt, step

FOLDER = Path(__file__).resolve().parent
ADMIN = 2  # whom the jobs belong to
#: The context in which records are made without tracking, notes and followers.
UNTRACKED = {"tracking_disable": True, "mail_create_nolog": True, "mail_create_nosubscribe": True}
#: Limits on memory are not what is tested, and count address space.
SERVER_ARGS = ("--limit-memory-soft=0", "--limit-memory-hard=0")


class Fake:
    """The fake provider, in a process of its own."""

    def __init__(self, folder):
        self.port, self.desk_port = processes.free_port(), processes.free_port()
        self.process = processes.start(
            [sys.executable, FOLDER / "fake_provider.py", self.port, self.desk_port],
            folder / "fake.log",
        )
        if not wait_for(self._is_ready, 10):
            halt(f"the fake provider did not start: see {folder / 'fake.log'}.")

    def _is_ready(self):
        try:
            return self._ask("/calls")
        except OSError:
            return None

    def _ask(self, path, values=None):
        data = None if values is None else json.dumps(values).encode()
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.desk_port}{path}", data, timeout=30
        ) as answer:
            return json.load(answer)

    def url(self, group):
        return f"http://127.0.0.1:{self.port}/{group}"

    def order(self, **order):
        """Say what calls get from now on; see fake_provider.py."""
        self._ask("/order", order)

    def forget(self):
        self._ask("/forget", {})

    def down(self):
        self._ask("/down", {})

    def up(self):
        self._ask("/up", {})

    def calls(self, group=None, *kinds):
        """Return the calls of a group, of these kinds (all without), oldest first."""
        return [
            call
            for call in self._ask("/calls")["calls"]
            if group in {None, call["group"]} and (not kinds or call["kind"] in kinds)
        ]

    def most(self, group):
        """Return how many submissions of a group were at work at once."""
        return self._ask("/calls")["most"].get(group, 0)

    def submissions(self, group):
        """Return {key: [call, …]} of what was submitted."""
        found = {}
        for call in self.calls(group, "chat", "create"):
            found.setdefault(call["key"], []).append(call)
        return found


class FaultLab(Lab):
    """A lab with the fake provider, and a database that has the module for it."""

    database = "faults"

    def __init__(self, name):
        super().__init__(f"fault-{name}", extra_addons=[FOLDER / "addons"])
        self.random = random.Random(4)
        self.servers = []

    def __enter__(self):
        super().__enter__()
        try:
            self.fake = Fake(self.folder)
            self.add_database(self.database)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc):
        if exc and exc[0] is None:  # after a failure the database may be away
            marks.note(self)
        return super().__exit__(*exc)

    def add_database(self, name):
        if fault_scripts.DATABASE in self.cluster.databases():
            self.instance.create_database(name, template=fault_scripts.DATABASE)
        else:
            self.stack_database(name)
            self.instance.install(name, [fault_scripts.PROVIDER])
        step(f"database {name} is ready")

    def restart_postgres(self, signum=None):
        # This process would have dead connections, too, and is not what is tested.
        if sql_db := sys.modules.get("odoo.sql_db"):
            sql_db.close_all()
        return super().restart_postgres(signum)

    # === SERVERS === #

    def start_servers(self, threaded=0, prefork=0, *, database=None, cron=None, args=(), env=None):
        """Start servers together; cron threads: one each, two where it is prefork."""
        database = database or self.database
        new = []
        for workers, count in ((0, threaded), (2, prefork)):
            for _number in range(count):
                name = f"{'prefork' if workers else 'threaded'}{len(self.servers) + 1}"
                server = self.instance.server(
                    database,
                    name=name,
                    workers=workers,
                    cron_threads=cron or (2 if workers else 1),
                    args=(*SERVER_ARGS, *args),
                    env=env,
                )
                server.name = name
                self.servers.append(server.start(wait=False))
                new.append(server)
        for server in new:
            server.wait_ready()
        step(f"{', '.join(server.name for server in new)} serve")
        return new

    def start_runners(self, servers):
        """Have a runner in each of these servers, as a long day of work would bring it about.

        The scheduled action starts one in whichever process is first, so those that have one
        are held while the others are called.
        """
        missing = {server.process.pid for server in servers}

        def call_the_others():
            held = self.runner_pids(servers[0].database)
            missing.difference_update(map(os.getsid, held))
            if not missing:
                return True
            for pid in held:
                os.kill(pid, signal.SIGSTOP)
            try:
                self.pump(servers[0].database)
                wait_for(lambda: self.runner_pids(servers[0].database) - held, 1.5, 0.05)
            finally:
                for pid in held:
                    os.kill(pid, signal.SIGCONT)
            return False

        if not wait_for(call_the_others, 90, 0.05):
            halt("the runners did not start.")
        step("each of them has a runner")

    def runner_pids(self, database=None):
        """Return the processes that have a runner now."""
        names = self.sql("SELECT name FROM llm_generation_runner", database).split()
        pids = {int(name.rpartition(":")[2]) for name in names}
        return {pid for pid in pids if Path(f"/proc/{pid}").exists()}

    def pump(self, database=None):
        with environment(self, database or self.database) as env:
            env.ref("llm_generate_job.ir_cron_process_queues")._trigger()

    # === DATA === #

    def sql(self, statement, database=None):
        return self.cluster.sql(statement, database or self.database)

    def rows(self, query, database=None):
        """Return the rows of a query as dicts."""
        text = self.sql(f"SELECT json_agg(found) FROM ({query}) found", database)
        return json.loads(text) if text else []

    def add_users(self, *logins, group="llm.group_llm_user"):
        """Make users whose passwords are their logins, members of a group, too, where it is.

        Of some `llm` only members of its group of users may read models.
        """
        with environment(self, self.database) as env:
            groups = env.ref("base.group_user")
            groups |= env.ref(group, raise_if_not_found=False) or groups
            env["res.users"].with_context(no_reset_password=True).create([
                {"name": login, "login": login, "password": login, "group_ids": groups.ids}
                for login in logins
            ])

    def add_provider(self, group, service, *, database=None, **queue_values):
        """Make a provider whose calls go to the fake's `group`; return its id."""
        base = self.fake.url(group) + ("/v1" if service in {"openai", "mistral"} else "")
        with environment(self, database or self.database) as env:
            provider = env["llm.provider"].create({
                "name": group,
                "service": service,
                "api_base": base,
                "api_key": KEY_MARK,
            })
            env["llm.model"].create({
                "name": f"{group}-model",
                "provider_id": provider.id,
                "model_use": "chat",
            })
            queue = env["llm.generation.queue"]._get_or_create_queue(provider)
            queue.write({"retry_delay_minutes": 0.03, **queue_values})
            return provider.id

    def set_queue(self, provider_id, **values):
        with environment(self, self.database) as env:
            env["llm.generation.queue"]._get_or_create_queue(provider_id).write(values)

    def add_jobs(self, provider_id, keys, *, database=None, **values):
        """Queue a job for each key, each in a thread of its own; return their ids."""
        with environment(self, database or self.database, ADMIN) as env:
            env = env(context={**env.context, **UNTRACKED})
            model = env["llm.provider"].browse(provider_id).model_ids
            base = {"provider_id": provider_id, "model_id": model.id}
            keys = list(keys)
            threads = env["llm.thread"].create([{"name": key, **base} for key in keys])
            jobs = env["llm.generation.job"].create([
                {
                    "thread_id": thread.id,
                    "generation_inputs": {"prompt": marked(key)},
                    **base,
                    **values,
                }
                for thread, key in zip(threads, keys, strict=True)
            ])
            jobs.action_queue()
            return jobs.ids

    def cancel(self, job_ids):
        """Cancel jobs, from another process than those that run them; return when that began."""

        def act(env):
            return time.time(), env["llm.generation.job"].browse(job_ids).action_cancel()

        return insist(self, self.database, act, ADMIN)[0]

    def add_thread(self, provider_id, name):
        """Return the ids of a new thread of the administrator, and of its model."""
        with environment(self, self.database, ADMIN) as env:
            model = env["llm.provider"].browse(provider_id).model_ids
            values = {"name": name, "provider_id": provider_id, "model_id": model.id}
            return env["llm.thread"].create(values).id, model.id

    def jobs(self, provider_id, database=None):
        """Return what the database has of a provider's jobs, with their attempts and answers."""
        return self.rows(
            f"""
            SELECT j.id, j.state, j.error_type, j.error_message, j.retry_count, j.duration,
                j.external_job_id, j.output_message_id, j.thread_id, j.retry_at,
                EXTRACT(EPOCH FROM j.completed_at) AS ended,
                trim(replace(j.generation_inputs->>'prompt', '{PROMPT_MARK}', '')) AS key,
                COALESCE((
                    SELECT array_agg(m.id) FROM mail_message m
                    WHERE m.model = 'llm.thread' AND m.res_id = j.thread_id
                        AND m.llm_role = 'assistant'), '{{}}') AS answers,
                COALESCE((
                    SELECT json_agg(json_build_object(
                        'id', a.id, 'outcome', a.outcome, 'error_type', a.error_type,
                        'external', a.external_job_id, 'runner', a.runner_name,
                        'seconds', EXTRACT(EPOCH FROM COALESCE(
                            a.ended_at, clock_timestamp() AT TIME ZONE 'UTC') - a.started_at)
                    ) ORDER BY a.id)
                    FROM llm_generation_attempt a WHERE a.job_id = j.id), '[]') AS attempts
            FROM llm_generation_job j WHERE j.provider_id = {provider_id} ORDER BY j.id
            """,
            database,
        )

    def states(self, *provider_ids, database=None):
        """Return {state: count} of the jobs of these providers."""
        found = self.rows(
            "SELECT state, count(*) AS n FROM llm_generation_job"
            f" WHERE provider_id IN ({', '.join(map(str, provider_ids))}) GROUP BY state",
            database,
        )
        return {row["state"]: row["n"] for row in found}

    def wait_ended(self, seconds, *provider_ids, database=None):
        """Wait until no job waits, runs, or will be tried again; return whether that came."""
        begin = time.monotonic()
        live = (
            "SELECT count(*) FROM llm_generation_job"
            f" WHERE provider_id IN ({', '.join(map(str, provider_ids))})"
            " AND (state IN ('queued', 'running') OR retry_at IS NOT NULL)"
        )
        ended = wait_for(lambda: self.sql(live, database) == "0", seconds, 0.25)
        states = self.states(*provider_ids, database=database)
        step(f"after {time.monotonic() - begin:.1f} s: {states}")
        return ended
