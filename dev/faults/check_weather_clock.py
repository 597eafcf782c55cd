"""The database's clock is set an hour back and forth under load; Odoo's own stays where it is."""

import time
from datetime import UTC, datetime

from evidence import check_completed, check_submissions, describe, log_tails
from fault_lab import FaultLab
from lib import commands, fake_clock
from lib.say import run_main, step
from lib.tally import Tally
from weather_table import report

#: group: (service, order, jobs each time)
LOADS = {
    "chats": ("faultchat", {"delay": 6, "pieces": 4}, 6),
    "sync": ("fault", {"delay": 6}, 6),
    "jobs": ("fault", {"job_seconds": 6}, 6),
    "limited": ("faultchat", {}, 2),
}
#: Seconds that a queue gives its jobs: less than an hour, more than they need.
TIMEOUT = 300
#: Seconds that the provider of `limited` asks for.
RETRY_AFTER = 25
#: Ten seconds before summer time ends where the server and the database are: an hour is twice.
NIGHT = datetime(2026, 10, 25, 0, 59, 50, tzinfo=UTC)
#: (what becomes of the clock, by how many seconds it is off from then on, or when it then is)
JUMPS = (
    ("an hour back", -3600),
    ("right again", 0),
    ("an hour forth", 3600),
    ("to the night when summer time ends", NIGHT),
)


def main():
    tally = Tally()
    with FaultLab("weather-clock") as lab:
        clock = fake_clock.FakeClock(lab.cluster.home / "clock")
        lab.cluster.env = clock.environment
        lab.restart_postgres()
        lab.sql(f"ALTER DATABASE {lab.database} SET timezone = 'Europe/Paris'")
        providers = {}
        for group, (service, order, _count) in LOADS.items():
            lab.fake.order(group=group, **order)
            providers[group] = lab.add_provider(group, service, job_timeout=TIMEOUT)
        servers = lab.start_servers(threaded=2, env={"TZ": "Europe/Paris"})
        lab.start_runners(servers)
        for number, (name, offset) in enumerate(JUMPS):
            run_jump(lab, tally, clock, providers, number, name, offset)
        for group, provider in providers.items():
            check_group(lab, tally, group, provider)
        words = "clock was set by"
        told = [server.name for server in servers if words in server.log_text()]
        tally.check(len(told) == len(servers), "each runner noticed", log_tails(servers))
    return tally.close()


def run_jump(lab, tally, clock, providers, number, name, offset):
    """Set the clock while jobs of each kind are in flight, and one provider asks for a pause."""
    refusal = {"fault": "status", "status": 429, "retry_after": RETRY_AFTER}
    lab.fake.order(group="limited", times=1, **refusal)
    before = len(lab.fake.calls())
    for group, (_service, _order, count) in LOADS.items():
        lab.add_jobs(providers[group], (f"job {number}.{one}" for one in range(count)))
    wanted = sum(count for _service, _order, count in LOADS.values()) - LOADS["limited"][2]
    commands.wait_for(
        lambda: len(lab.fake.calls(None, "chat", "create")) >= before + wanted, 20, 0.1
    )
    time.sleep(1)
    if isinstance(offset, datetime):
        offset = round(offset.timestamp() - time.time())
    clock.set(offset)
    now = lab.sql("SELECT EXTRACT(EPOCH FROM clock_timestamp())")
    tally.check(abs(float(now) - time.time() - offset) < 5, f"the clock is set {name}", now)
    begin = time.monotonic()
    step(f"the clock was set {name}")
    ended = lab.wait_ended(90, *providers.values())
    took = time.monotonic() - begin
    tally.check(ended, f"clock set {name}: everything ends", log_tails(lab.servers))
    report(lab, tally, f"clock set {name}", providers, since=0, recovered=took,
           explained={"rate_limited"})  # fmt: skip


def check_group(lab, tally, group, provider):
    jobs = lab.jobs(provider)
    check_completed(lab, tally, jobs, f"{group}: all are completed")
    repeated = check_submissions(lab.fake, tally, jobs, group, explained={"rate_limited"})
    wanted = len(JUMPS) if group == "limited" else 0
    tally.check(len(repeated) >= bool(wanted), f"{group}: the refused ones are asked again")
    spent = [job for job in jobs if job["retry_count"] or job["error_type"]]
    tally.check(not spent, f"{group}: it costs no retry", describe(spent))
    bad = [job for job in jobs for one in job["attempts"]
           if one["error_type"] not in {None, "rate_limited"}]  # fmt: skip
    tally.check(not bad, f"{group}: nobody is taken for dead or late", describe(bad))


if __name__ == "__main__":
    run_main(main)
