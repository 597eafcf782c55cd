"""Rows that jobs touch are locked for a minute: others go on, a server ends, no answer is lost."""

import threading
import time
from statistics import median

from evidence import check_completed, check_submissions, log_tails
from fake_book import marked
from fault_lab import ADMIN, FaultLab
from lib.lab import environment
from lib.processes import wait_for
from lib.say import run_main, step
from lib.tally import Tally
from weather_table import report

QUIET = True
#: Seconds that the rows are locked.
LOCKED = 60
#: Seconds in which a server ends: the grace, what it then waits for, and Odoo itself.
ENDS_WITHIN = 20 + 5 + 5
HELD = 6
#: Has a hook of a thread write on a partner's row.
TOUCHES = {"LLM_FAULT_TOUCHES": "1"}
#: Seconds that a call takes whose answer touches what is locked then.
CALL = 5


def main():
    tally = Tally()
    with FaultLab("locked-rows") as lab:
        lab.fake.order(delay=0.3)
        rows = Rows(lab, tally)
        [server] = lab.start_servers(threaded=1, env=TOUCHES)
        lab.start_runners([server])
        usual = pace(lab, rows.healthy, "usual", 15)
        lock = rows.lock_under("first", LOCKED, user=True)
        meanwhile = pace(lab, rows.healthy, "meanwhile", LOCKED / 2)
        tally.check(
            meanwhile < 2 * usual + 0.5,
            "three rows are locked: other queues keep their pace",
            f"{meanwhile:.2f} s, {usual:.2f} s without",
        )
        waiting = lab.states(rows.hooked, rows.of_user)
        tally.check(waiting == {"running": 2 * HELD}, "what is locked waits", str(waiting))
        lock.join()
        check_ends(lab, tally, rows, "a queue, a partner and a user locked")
        check_shutdown(lab, tally, rows, server)
    return tally.close()


def check_shutdown(lab, tally, rows, server):
    """A server ends in time though rows are locked, and its answers are kept."""
    lock = rows.lock_under("second", ENDS_WITHIN + 5)
    time.sleep(CALL)
    begin = time.monotonic()
    server.stop(seconds=ENDS_WITHIN + 30)
    lasted = time.monotonic() - begin
    step(f"the server ended after {lasted:.1f} s")
    tally.check(lasted < ENDS_WITHIN, "a server ends within its grace", f"{lasted:.1f} s")
    done = lab.states(rows.hooked)
    tally.check(done == {"completed": 2 * HELD}, "its answers are kept", str(done))
    lock.join()
    lab.start_runners(lab.start_servers(threaded=1, env=TOUCHES))
    check_ends(lab, tally, rows, "a server ends while rows are locked")


def check_ends(lab, tally, rows, fault):
    providers = rows.providers
    since = time.time()
    ended = lab.wait_ended(60, *providers.values())
    tally.check(ended, f"{fault}: nothing is stuck", log_tails(lab.servers))
    report(lab, tally, fault, providers, since=since, explained={"rate_limited"})
    for group in ("healthy", "hooked", "user"):
        check_completed(lab, tally, lab.jobs(providers[group]), f"{fault}, {group}: all completed")
        again = check_submissions(lab.fake, tally, lab.jobs(providers[group]), group)
        tally.check(not again, f"{fault}, {group}: no answer is submitted again", str(again))


def pace(lab, provider, name, seconds):
    """Queue jobs all the time; return the median of the seconds from there to their ends."""
    begin, ids = time.monotonic(), []
    while time.monotonic() - begin < seconds:
        ids += lab.add_jobs(provider, [f"{name} {len(ids)}"])
        time.sleep(1)
    wait_for(lambda: set(lab.states(provider)) == {"completed"}, LOCKED, 0.2)
    found = lab.rows(
        "SELECT queue_duration + duration AS lasted"
        f" FROM llm_generation_job WHERE id IN ({', '.join(map(str, ids))})"
    )
    seconds = median(row["lasted"] for row in found)
    slowest = max(row["lasted"] for row in found)
    lasted = f"median {seconds:.2f} s, at most {slowest:.2f} s"
    step(f"{name}: {len(found)} jobs in {time.monotonic() - begin:.0f} s, {lasted}")
    return seconds


class Rows:
    """Providers, and what their jobs touch."""

    def __init__(self, lab, tally):
        self.lab, self.tally = lab, tally
        self.healthy = lab.add_provider("healthy", "faultchat")
        self.hooked = lab.add_provider("hooked", "faultchat", max_concurrent_jobs=HELD)
        self.of_user = lab.add_provider("user", "faultchat", max_concurrent_jobs=HELD)
        self.limited = lab.add_provider("limited", "faultchat", max_concurrent_jobs=HELD)
        self.providers = {
            "healthy": self.healthy, "hooked": self.hooked, "user": self.of_user,
            "limited": self.limited,
        }  # fmt: skip
        lab.add_users("locked")
        with environment(lab, lab.database) as env:
            self.partner_id = env["res.partner"].create({"name": "Locked"}).id
            self.user_id = env["res.users"].search([("login", "=", "locked")]).id

    def lock_under(self, name, seconds, *, user=False):
        """Queue jobs whose answers touch rows, and lock these while the calls are under way.

        :return: the thread that locks them, which ends then
        """
        refused = {"fault": "status", "status": 429, "retry_after": 1}
        self.lab.fake.order(group="limited", times=HELD, delay=CALL, **refused)
        for group in ("hooked", "user"):
            self.lab.fake.order(group=group, delay=CALL)
        groups = {"hooked": (ADMIN, {"touches": self.partner_id}), "limited": (ADMIN, {})}
        if user:
            groups["user"] = (self.user_id, {})
        before = {group: len(self.lab.fake.calls(group)) for group in groups}
        for group, (user_id, inputs) in groups.items():
            self._add(self.providers[group], f"{group} {name}", user_id, **inputs)
        for group, count in before.items():
            called = wait_for(lambda: len(self.lab.fake.calls(group)) == count + HELD, 20, 0.1)  # noqa: B023
            self.tally.check(called, f"{name}, {group}: all are called")
        return self.lock(seconds, user=user)

    def _add(self, provider_id, name, user_id, **inputs):
        with environment(self.lab, self.lab.database) as env:
            model = env["llm.provider"].browse(provider_id).model_ids
            base = {"provider_id": provider_id, "model_id": model.id, "user_id": user_id}
            keys = [f"{name} {number}" for number in range(HELD)]
            threads = env["llm.thread"].create([{"name": key, **base} for key in keys])
            jobs = env["llm.generation.job"].create([
                {
                    "thread_id": thread.id,
                    "generation_inputs": {"prompt": marked(key), **inputs},
                    **base,
                }
                for key, thread in zip(keys, threads, strict=True)
            ])
            jobs.action_queue()

    def lock(self, seconds, *, user=False):
        """Lock a queue, a partner and a user; return the thread that does, which ends then."""
        statement = f"""
            BEGIN;
            SELECT FROM res_partner WHERE id = {self.partner_id} FOR UPDATE;
            SELECT FROM res_users WHERE id = {self.user_id if user else 0} FOR UPDATE;
            SELECT FROM llm_generation_queue WHERE provider_id = {self.limited} FOR UPDATE;
            SELECT pg_sleep({seconds}); COMMIT;
        """
        thread = threading.Thread(target=self.lab.sql, args=(statement,), daemon=True)
        thread.start()
        time.sleep(0.2)
        return thread


if __name__ == "__main__":
    run_main(main)
