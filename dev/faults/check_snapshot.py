"""Sixty calls in flight hold no transaction open, and few connections."""

import threading
import time

import psycopg2
from evidence import check_completed, log_tails
from fault_lab import FaultLab
from lib import postgres
from lib.processes import wait_for
from lib.say import run_main, step
from lib.tally import Tally
from weather_table import report

#: Seconds that each call takes.
CALL = 10
#: group: (service, calls, order). A runner takes 64 at a time, of each a third at most.
CALLS = {
    "chats": ("faultchat", 20, {"delay": CALL}),
    "flowing": ("openai", 20, {"delay": CALL, "pieces": 50}),
    "sync": ("fault", 20, {"delay": CALL}),
}
TOTAL = sum(count for _service, count, _order in CALLS.values())
#: Seconds that a transaction may be idle. One that is open while a provider is waited for is so
#: for a whole call; a quarter of that is more than any thread waits for its turn on a busy
#: machine. Connections that the calls may take.
IDLE, CONNECTIONS = CALL / 4, 28
#: Holds something to a bar in seconds.
QUIET = True
#: Sessions that are `idle` have no transaction but, for a moment, that in which PostgreSQL itself
#: hands them a notification; it dates that one back to their last statement.
WATCH = """
    SELECT state, EXTRACT(EPOCH FROM clock_timestamp() - xact_start),
        EXTRACT(EPOCH FROM clock_timestamp() - state_change), application_name, left(query, 200)
    FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND application_name = %s
"""


class CallRecorder(threading.Thread):
    """Looks at the server's sessions all the time, and remembers the worst."""

    def __init__(self, lab, server):
        super().__init__(daemon=True)
        self.name_watched = f"odoo-{server.process.pid}"
        self.connection = psycopg2.connect(
            host=str(lab.cluster.socket), port=postgres.PORT, user=postgres.USER, dbname="postgres"
        )
        self.connection.autocommit = True
        self.idle, self.oldest, self.most, self.looks = (0.0, ""), (0.0, ""), 0, 0
        self.over = threading.Event()

    def run(self):
        with self.connection.cursor() as cursor:
            while not self.over.wait(0.05):
                cursor.execute(WATCH, [self.name_watched])
                rows = cursor.fetchall()
                self.looks += 1
                self.most = max(self.most, len(rows))
                for state, age, quiet, _name, query in rows:
                    if age is not None and state != "idle":
                        self.oldest = max(self.oldest, (float(age), f"{state}: {query}"))
                    if (state or "").startswith("idle in transaction"):
                        self.idle = max(self.idle, (float(quiet), query))


def main():
    tally = Tally()
    with FaultLab("snapshot") as lab:
        providers = {}
        for group, (service, _count, order) in CALLS.items():
            lab.fake.order(group=group, **order)
            providers[group] = lab.add_provider(group, service, max_concurrent_jobs=30)
        [server] = lab.start_servers(threaded=1)
        lab.start_runners([server])
        recorder = CallRecorder(lab, server)
        recorder.start()
        since = time.time()
        for number in range(2):
            for group, (_service, count, _order) in CALLS.items():
                lab.add_jobs(providers[group], (f"{number}.{one}" for one in range(count)))
            busy = wait_for(lambda: in_flight(lab) == TOTAL, 10, 0.1)
            tally.check(busy, f"{TOTAL} calls are in flight", f"{in_flight(lab)}")
            tally.check(lab.wait_ended(60, *providers.values()), "they end", log_tails([server]))
        recorder.over.set()
        recorder.join()
        report(lab, tally, f"{TOTAL} slow calls at once", providers, since=since, explained=())
        for group, provider in providers.items():
            check_completed(lab, tally, lab.jobs(provider), f"{group}: all are completed")
        check_watch(tally, recorder)
    return tally.close()


def in_flight(lab):
    return sum(call["outcome"] == "open" for call in lab.fake.calls())


def check_watch(tally, recorder):
    seconds, query = recorder.idle
    tally.check(seconds < IDLE, f"no transaction was idle for {IDLE} s", f"{seconds:.2f} s {query}")
    seconds, query = recorder.oldest
    tally.check(seconds < IDLE, f"no transaction lasted {IDLE} s", f"{seconds:.2f} s {query}")
    tally.check(recorder.looks > 100, "the sessions were watched", f"{recorder.looks} times")
    tally.check(
        0 < recorder.most <= CONNECTIONS,
        f"at most {CONNECTIONS} connections for {TOTAL} calls",
        f"there were {recorder.most}",
    )
    step(
        f"idle in transaction for {recorder.idle[0]:.3f} s at most, a transaction lasted"
        f" {recorder.oldest[0]:.3f} s at most, {recorder.most} connections at most"
    )


if __name__ == "__main__":
    run_main(main)
