"""A server is killed at each step of a job: nothing is lost or stuck, duplicates are explained."""

import json
import time
from pathlib import Path

from evidence import check_completed, check_submissions, describe, log_tails
from fault_lab import FaultLab
from lib.processes import wait_for
from lib.say import run_main, step
from lib.tally import Tally
from weather_table import report

#: The steps, in their order. From IN_CALL on the provider may have done the work, and until the
#: finish is committed nobody knows but the process that dies.
CLAIMING, CLAIMED = "before the commit of the claim", "after the claim"
BEFORE_CALL, IN_CALL, AFTER_CALL = "before the call", "in the call", "after the call"
BEFORE_FINISH, IN_FINISH, FINISHED = "before the finish", "in the finish", "after the finish"
DEADLY = (CLAIMED, BEFORE_CALL, IN_CALL, AFTER_CALL, BEFORE_FINISH, IN_FINISH)
STEPS = (CLAIMING, *DEADLY, FINISHED)
UNKNOWABLE = {IN_CALL, AFTER_CALL, BEFORE_FINISH, IN_FINISH}
#: Seconds: where no other process has a runner, the scheduled action starts one every minute.
PUMP = 120
#: kind: (service, order, whether the crash comes when the provider's id is known)
KINDS = {
    "chats": ("faultchat", {"pieces": 4, "delay": 0.2}, False),
    "sync": ("fault", {}, False),
    "submits": ("fault", {"job_seconds": 1}, False),
    "polls": ("fault", {"job_seconds": 0.3}, True),
}


def main():
    tally = Tally()
    with FaultLab("crash-points") as lab:
        crashes = Crashes(lab)
        lab.start_servers(threaded=1, env=crashes.environment)
        crashes.run("sync", IN_CALL)  # there is nobody else: this kills a whole server
        tally.check(crashes.whole == ["threaded1"], "a whole server was killed")
        lab.start_servers(prefork=1, env=crashes.environment)
        for kind in KINDS:
            for name in STEPS:
                if (kind, name) not in crashes.providers:
                    crashes.run(kind, name)
        step(f"{len(crashes.providers)} crashes, whole servers: {crashes.whole}")
        crashes.enable_all()
        ended = lab.wait_ended(120, *crashes.providers.values())
        tally.check(ended, "nothing is stuck after the crashes", log_tails(lab.servers))
        for name in STEPS:
            groups = {group_of(kind, name): crashes.providers[kind, name] for kind in KINDS}
            since = max(crashes.at[kind, name] for kind in KINDS)
            report(lab, tally, f"killed {name}", groups, since=since, explained={"worker_died"})
        for kind, name in crashes.providers:
            check_case(lab, tally, crashes, kind, name)
    return tally.close()


def group_of(kind, name):
    return f"{kind} {name}".replace(" ", "-")


class Crashes:
    """Has the servers killed, one step after the other."""

    def __init__(self, lab):
        self.lab = lab
        self.folder = lab.folder / "crashes"
        self.folder.mkdir()
        self.environment = {"LLM_FAULT_CRASHES": str(self.folder)}
        self.providers, self.at, self.pids, self.whole = {}, {}, {}, []

    def run(self, kind, name):
        """Queue a job, and wait until its step has killed the process that works on it."""
        service, order, polling = KINDS[kind]
        group = group_of(kind, name)
        self.lab.fake.order(group=group, **order)
        provider = self.providers[kind, name] = self.lab.add_provider(group, service)
        armed = {"step": name, "group": group, "polling": polling}
        (self.folder / "new").write_text(json.dumps(armed))
        (self.folder / "new").rename(self.folder / "armed")
        self.lab.add_jobs(provider, [group])
        wait_for(lambda: self._has_fired(group), 40, 0.05)
        self.at[kind, name] = time.time()
        (self.folder / "armed").unlink(missing_ok=True)
        self.pids[kind, name] = self.fired(group)
        step(f"{group}: killed {self.pids[kind, name]}")
        if name == CLAIMING and not polling:  # waits as before, and others run it
            self.lab.wait_ended(PUMP, provider)
        else:  # what is rescued must not be in the next process that dies
            self.lab.set_queue(provider, enabled=False)
        for server in self.lab.servers:
            if server.process.pid in self.pids[kind, name]:  # the kernel takes its time
                wait_for(lambda one=server: not one.process.is_alive(), 10, 0.02)
            if not server.process.is_alive():
                self.whole.append(server.name)
                server.start(wait=False)

    def _has_fired(self, group):
        if not self.fired(group):
            self.lab.pump()  # a worker that was just made has not heard of the job
            return wait_for(lambda: self.fired(group), 1, 0.02)
        return True

    def fired(self, group):
        """Return the processes that killed themselves at the step of a group."""
        fired = [path.name.split(".") for path in self.folder.glob("fired.*")]
        return [int(pid) for _fired, _step, name, pid in fired if name == group]

    def enable_all(self):
        for provider in self.providers.values():
            self.lab.set_queue(provider, enabled=True)


def check_case(lab, tally, crashes, kind, name):
    title = group_of(kind, name)
    pids = crashes.pids[kind, name]
    dead = [pid for pid in pids if not Path(f"/proc/{pid}").exists()]
    tally.check(
        len(pids) == len(dead) == len(crashes.fired(title)) == 1,
        f"{title}: one process was killed, once",
        f"{pids}, of which {dead} are gone",
    )
    jobs = lab.jobs(crashes.providers[kind, name])
    check_completed(lab, tally, jobs, f"{title}: is completed")
    repeated = check_submissions(lab.fake, tally, jobs, title, explained={"worker_died"})
    deaths = [one for job in jobs for one in job["attempts"] if one["error_type"] == "worker_died"]
    attempts = sum(len(job["attempts"]) for job in jobs)
    wanted = int(name in DEADLY and kind != "polls")
    tally.check(
        len(deaths) == wanted and attempts == 1 + wanted,
        f"{title}: {wanted} attempts died",
        describe(jobs),
    )
    wanted = name in UNKNOWABLE and kind != "polls"
    tally.check(
        bool(repeated) == wanted,
        f"{title}: {'' if wanted else 'not '}submitted again",
        f"{lab.fake.submissions(title)}\n{describe(jobs)}",
    )


if __name__ == "__main__":
    run_main(main)
