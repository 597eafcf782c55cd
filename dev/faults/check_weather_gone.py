"""What jobs need is deleted or archived while they run and wait: each ends, and says why."""

import time

from evidence import check_logs, describe, log_tails
from fake_book import marked
from fault_lab import FaultLab
from lib import fault_table
from lib.lab import environment, insist
from lib.processes import wait_for
from lib.say import run_main, step
from lib.tally import Tally
from weather_table import report

#: group: (service, order). Two jobs of each run at a time, two wait.
KINDS = {
    "chats": ("faultchat", {"delay": 4, "pieces": 40}),
    "sync": ("fault", {"delay": 4}),
    "jobs": ("fault", {"job_seconds": 8}),
}
JOBS, LIMIT = 4, 2
#: For what has to be stopped: these do not end by themselves meanwhile.
ENDLESS = {
    "chats": ("faultchat", {"delay": 300, "pieces": 3000}),
    "sync": ("fault", {"delay": 90}),
    "jobs": ("fault", {"job_seconds": 300}),
}


def main():
    tally = Tally()
    with FaultLab("gone") as lab:
        [server] = lab.start_servers(threaded=1)
        lab.start_runners([server])
        for fault, act, check in (
            ("thread deleted", delete_threads, check_deleted),
            ("provider archived", archive_providers, check_waiting),
            ("model archived", archive_models, check_run),
            ("company archived", archive_company, check_run),
            ("user archived", archive_user, check_refused),
        ):
            check_fault(lab, tally, fault, act, check)
        check_logs(tally, [server], words=(" ERROR ", " CRITICAL ", "Traceback"))
        check_refusals(lab, tally)  # which Odoo logs as errors of the database
    return tally.close()


def check_fault(lab, tally, fault, act, check):
    """Do something to what four jobs of each kind need, two of which run."""
    work = Work(lab, fault, ENDLESS if act is delete_threads else KINDS)
    under_way = wait_for(work.is_under_way, 20, 0.1)
    tally.check(under_way, f"{fault}: jobs are under way", log_tails(lab.servers))
    since = time.time()
    act(lab, work)
    check(lab, tally, work, since)
    survives = lab.add_provider(f"{fault} after", "fault")
    lab.add_jobs(survives, [f"{fault} after"])
    tally.check(
        lab.wait_ended(20, survives) and lab.states(survives) == {"completed": 1},
        f"{fault}: the runner goes on with others",
        log_tails(lab.servers),
    )


class Work:
    """Jobs of each kind, of a user of their own."""

    def __init__(self, lab, fault, kinds):
        self.lab, self.fault = lab, fault
        self.providers, self.job_ids = {}, {}
        login = fault.replace(" ", "_")
        lab.add_users(login)
        with environment(lab, lab.database) as env:
            main = env.company
            self.company_id = env["res.company"].create({"name": fault}).id
            user = env["res.users"].search([("login", "=", login)])
            user.company_ids = [main.id, self.company_id]
            user.company_id = self.company_id
            self.user_id = user.id
        for kind, (service, order) in kinds.items():
            group = f"{login}-{kind}"
            lab.fake.order(group=group, **order)
            self.providers[group] = lab.add_provider(group, service, max_concurrent_jobs=LIMIT)
            with environment(lab, lab.database) as env:
                provider = env["llm.provider"].browse(self.providers[group])
                provider.company_id = self.company_id
                self.job_ids[group] = self.add_jobs(env, provider).ids

    def add_jobs(self, env, provider):
        base = {
            "provider_id": provider.id, "model_id": provider.model_ids.id, "user_id": self.user_id,
        }  # fmt: skip
        keys = [f"{provider.name} {number}" for number in range(JOBS)]
        threads = env["llm.thread"].create([{"name": key, **base} for key in keys])
        jobs = env["llm.generation.job"].create([
            {"thread_id": thread.id, "generation_inputs": {"prompt": marked(key)}, **base}
            for key, thread in zip(keys, threads, strict=True)
        ])
        jobs.action_queue()
        return jobs

    def is_under_way(self):
        calls = [call["group"] for call in self.lab.fake.calls(None, "chat", "create")]
        accepted = [job for job in self.jobs() if job["external_job_id"]]
        return len(accepted) == LIMIT and all(
            calls.count(group) == LIMIT for group in self.providers
        )

    def jobs(self):
        return [job for provider in self.providers.values() for job in self.lab.jobs(provider)]

    def wait_ended(self, seconds=40):
        return self.lab.wait_ended(seconds, *self.providers.values())

    def calls(self, *kinds):
        return [
            call for call in self.lab.fake.calls(None, *kinds) if call["group"] in self.providers
        ]


def delete_threads(lab, work):
    """Have what runs or waits be cancelled; nothing else lets a thread go."""
    threads = [job["thread_id"] for job in work.jobs()]
    [server] = lab.servers
    login = work.fault.replace(" ", "_")
    with environment(lab, lab.database) as env:
        of_user = env["llm.thread"].with_user(work.user_id).browse(threads)
        if not of_user.has_access("unlink"):  # on the family only managers may
            env.ref("base.user_admin").group_ids += env.ref("llm.group_llm_manager")
            login = "admin"
    work.refusal = try_to_delete(server, threads, login)

    def cancel(env):
        env["llm.thread"].browse(threads).action_cancel_generation()

    insist(lab, lab.database, cancel)
    wait_for(lambda: not try_to_delete(server, threads, login), 15, 0.2)


def try_to_delete(server, threads, login):
    """Delete threads; return why they are not."""
    try:
        server.call("llm.thread", "unlink", threads, login=login)
    except RuntimeError as error:
        return str(error)
    return ""


def check_deleted(lab, tally, work, since):
    """Threads stay while their jobs run; then the jobs go with them, and what ran is stopped."""
    tally.check(
        "Cancel it first" in work.refusal, "a thread stays while its job runs", work.refusal
    )
    left = work.jobs()
    tally.check(not left, "thread deleted: its jobs are gone", describe(left))
    ids = {call["key"] for call in work.calls("create") if call["group"].endswith("jobs")}

    def is_told():
        return {call["key"] for call in work.calls("cancel")} == ids

    told = wait_for(is_told, 15, 0.1)
    tally.check(
        told and len(ids) == LIMIT,
        "thread deleted: the provider is told of its jobs",
        f"{ids}: {work.calls('cancel')}\n{log_tails(lab.servers)}",
    )
    hung_up = wait_for(
        lambda: not [call for call in work.calls("chat") if call["outcome"] in {"open", "ok"}],
        5,
        0.1,
    )
    tally.check(hung_up, "thread deleted: its calls are hung up on", str(work.calls("chat")))
    seconds = time.time() - since
    time.sleep(4)  # for what must not start
    begun = len(work.calls("chat", "create"))
    tally.check(begun == LIMIT * len(KINDS), "thread deleted: nothing more starts", str(begun))
    fault_table.hand_over(
        fault_table.Row(
            script="check_weather_gone", fault=work.fault, jobs=JOBS * len(KINDS), lost=0,
            duplicated=0, unexplained=0, stuck=len(left), recovered=seconds, why="deleted",
        )
    )  # fmt: skip


def archive_providers(lab, work):
    with environment(lab, lab.database) as env:
        env["llm.provider"].browse(work.providers.values()).write({"active": False})


def check_waiting(lab, tally, work, since):
    """What runs is answered; what waits does so until the provider is back."""

    def is_calm():
        return lab.states(*work.providers.values()) == {
            "completed": LIMIT * len(KINDS), "queued": (JOBS - LIMIT) * len(KINDS),
        }  # fmt: skip

    calm = wait_for(is_calm, 30, 0.25)
    tally.check(calm, f"{work.fault}: what runs ends, what waits waits", describe(work.jobs()))
    with environment(lab, lab.database) as env:
        queues = env["llm.generation.queue"].search([
            ("provider_id", "in", list(work.providers.values())),
        ])
        reasons = set(queues.mapped("health_reason"))
        tally.check(len(reasons) == 1 and all(reasons), f"{work.fault}: it says why", str(reasons))
        step(f"{work.fault}: {reasons}")
        env["llm.provider"].browse(work.providers.values()).write({"active": True})
    check_run(lab, tally, work, since)


def archive_models(lab, work):
    with environment(lab, lab.database) as env:
        env["llm.provider"].browse(work.providers.values()).model_ids.write({"active": False})


def archive_company(lab, work):
    # Odoo refuses it while a user has it as the first company; other tools do not.
    lab.sql(f"UPDATE res_company SET active = FALSE WHERE id = {work.company_id}")


def check_run(lab, tally, work, since):
    """It makes no difference to what was asked before."""
    tally.check(work.wait_ended(), f"{work.fault}: all end", log_tails(lab.servers))
    odd = [job for job in work.jobs() if job["state"] != "completed"]
    tally.check(not odd, f"{work.fault}: all are completed", describe(odd))
    report(lab, tally, work.fault, work.providers, since=since, expected=JOBS * len(KINDS))


def archive_user(lab, work):
    with environment(lab, lab.database) as env:
        env["res.users"].browse(work.user_id).write({"active": False})


def check_refused(lab, tally, work, since):
    """A call in flight is answered; what a provider runs is given up there, and nothing starts."""
    tally.check(work.wait_ended(), f"{work.fault}: all end", log_tails(lab.servers))
    jobs = work.jobs()
    half = LIMIT * len(KINDS)
    completed = [job for job in jobs if job["state"] == "completed"]
    external = [job for job in completed if job["external_job_id"]]
    tally.check(
        len(completed) == half - LIMIT and not external,
        f"{work.fault}: calls in flight are answered",
        describe(jobs, 12),
    )
    told = wait_for(lambda: len(work.calls("cancel")) == LIMIT, 10, 0.1)
    tally.check(told, f"{work.fault}: the provider is told", str(work.calls("cancel")))
    failed = [job for job in jobs if job["state"] == "failed"]
    mute = [
        job
        for job in failed
        if job["error_type"] != "access" or "archived" not in job["error_message"]
    ]
    tally.check(not mute, f"{work.fault}: a sentence tells why", describe(mute))
    begun = len(work.calls("chat", "create"))
    tally.check(begun == half, f"{work.fault}: nothing starts in that name", str(begun))
    report(
        lab, tally, work.fault, work.providers, since=since, expected=JOBS * len(KINDS),
        ends=("completed", "failed"),
    )  # fmt: skip


def check_refusals(lab, tally):
    """What jobs refer to cannot be deleted; the refusal is no crash, and the job runs on."""
    work = Work(lab, "deleted under jobs", KINDS)
    wait_for(work.is_under_way, 20, 0.1)
    since = time.time()
    provider_id = next(iter(work.providers.values()))
    with environment(lab, lab.database) as env:
        env.ref("base.user_admin").group_ids += env.ref("llm.group_llm_manager")
        provider = env["llm.provider"].browse(provider_id)
        # The manager's, where it has to have one: the family has no rules of companies.
        provider.company_id = env.company if provider._fields["company_id"].required else False
    for title, find in (
        ("queue", lambda env: env["llm.generation.queue"]._get_or_create_queue(provider_id)),
        ("provider", lambda env: env["llm.provider"].browse(provider_id)),
        ("model", lambda env: env["llm.provider"].browse(provider_id).model_ids),
        ("user", lambda env: env["res.users"].browse(work.user_id)),
    ):
        [server] = lab.servers
        with environment(lab, lab.database) as env:
            records = find(env)
            model, ids = records._name, records.ids
        try:
            server.call(model, "unlink", ids)
            refusal = ""
        except RuntimeError as error:
            refusal = str(error)
        tally.check(len(refusal) > 20, f"a {title} that jobs need is not deleted", refusal)
        step(f"{title}: {refusal[:160]}")
    check_run(lab, tally, work, since)


if __name__ == "__main__":
    run_main(main)
