"""A hundred thousand waiting jobs are cancelled at once: nobody else waits for that."""

import threading
import time
from pathlib import Path

from evidence import check_completed, check_logs, log_tails
from fault_lab import ADMIN, FaultLab
from lib import fault_table
from lib.lab import environment
from lib.say import run_main, step
from lib.tally import Tally
from weather_table import report

CROWD = 100_000
#: Seconds that the cancelling may take, and a job of another queue may wait meanwhile: it takes
#: some hundredths, and the machine has other work. MiB that it may take.
LONGEST, WAIT, MEMORY = 240, 5.0, 400

FILL = """
    INSERT INTO llm_generation_job (
        thread_id, provider_id, model_id, user_id, company_id, state, priority, fair_rank,
        queued_at, create_date, max_retries, retry_count, attempt_count, is_scheduled,
        estimated_tokens, generation_inputs, webhook_token, name)
    SELECT thread_id, provider_id, model_id, user_id, company_id, 'queued', 20, number,
        now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC', 3, 0, 0, FALSE, 300,
        generation_inputs, 'token-' || number, name
    FROM llm_generation_job, generate_series(1, {count}) AS number
    WHERE id = {job}
"""


def main():
    tally = Tally()
    with FaultLab("crowd") as lab:
        lab.fake.order(group="crowd", delay=0.2)
        crowd = lab.add_provider("crowd", "fault", max_concurrent_jobs=4)
        other = lab.add_provider("other", "fault", max_concurrent_jobs=4)
        lab.set_queue(crowd, enabled=False)
        [job] = lab.add_jobs(crowd, ["one of many"])
        lab.sql(FILL.format(count=CROWD, job=job))
        lab.sql("ANALYZE llm_generation_job")
        [server] = lab.start_servers(threaded=1)
        lab.start_runners([server])
        lab.set_queue(crowd, enabled=True)
        lab.pump()
        time.sleep(1)
        check_cancel(lab, tally, crowd, other, server)
        check_logs(tally, [server], words=(" ERROR ", "Traceback", "could not serialize"))
    return tally.close()


class Others(threading.Thread):
    """Queues a job of another queue now and then, for as long as the cancelling takes."""

    def __init__(self, lab, provider):
        super().__init__(daemon=True)
        self.lab, self.provider, self.over, self.count = lab, provider, threading.Event(), 0

    def run(self):
        while not self.over.wait(0.5):
            self.count += 1
            self.lab.add_jobs(self.provider, [f"meanwhile {self.count}"])


def check_cancel(lab, tally, crowd, other, server):
    others = Others(lab, other)
    others.start()
    before = peak(server)
    with environment(lab, lab.database, ADMIN) as env:
        queue_id = env["llm.generation.queue"]._get_or_create_queue(crowd).id
    begin = time.time()
    count = server.call("llm.generation.queue", "action_clear_queue", [queue_id])
    seconds, memory = time.time() - begin, peak(server) - before
    others.over.set()
    others.join()
    step(f"{count} jobs were cancelled in {seconds:.1f} s, with {memory:.0f} MiB more")
    states = lab.states(crowd)
    ran = states.get("completed", 0)
    tally.check(
        set(states) <= {"cancelled", "completed", "running"} and count > CROWD * 0.9,
        "all that waited are cancelled", str(states),
    )  # fmt: skip
    tally.check(ran > 0, "the queue itself went on until then", str(states))
    tally.check(seconds < LONGEST, f"it takes less than {LONGEST} s", f"{seconds:.0f} s")
    tally.check(memory < MEMORY, f"it takes less than {MEMORY} MiB", f"{memory:.0f} MiB")
    ended = lab.wait_ended(30, crowd, other)
    tally.check(ended, "nothing is stuck", log_tails([server]))
    tally.check(
        sum(lab.states(crowd).values()) == CROWD + 1, "none is lost", str(lab.states(crowd))
    )
    check_completed(lab, tally, lab.jobs(other), "another queue's jobs are completed")
    waits = lab.rows(
        "SELECT max(queue_duration) AS longest, avg(queue_duration) AS mean, count(*) AS n"
        f" FROM llm_generation_job WHERE provider_id = {other}"
    )[0]
    tally.check(waits["n"] >= 5, "there were other jobs meanwhile", str(waits))
    tally.check(waits["longest"] < WAIT, f"none of another queue waited for {WAIT} s", str(waits))
    step(f"meanwhile {waits['n']} others waited {waits['mean']:.3f} s, {waits['longest']:.3f} s at"
         " most, for their claim")  # fmt: skip
    report(lab, tally, "100,000 jobs cancelled: others", {"other": other}, since=begin + seconds)
    states = lab.states(crowd)
    fault_table.hand_over(
        fault_table.Row(
            script="check_weather_crowd", fault="100,000 jobs cancelled", jobs=CROWD + 1,
            lost=CROWD + 1 - sum(states.values()),
            duplicated=0, unexplained=0,
            stuck=states.get("queued", 0) + states.get("running", 0),
            recovered=seconds,
        )
    )  # fmt: skip


def peak(server):
    """Return the most memory that the server has had, in MiB."""
    status = Path(f"/proc/{server.process.pid}/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    run_main(main)
