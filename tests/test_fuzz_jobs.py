from datetime import timedelta

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from odoo import fields
from odoo.exceptions import UserError
from odoo.tools import mute_logger

from .. import exceptions
from . import fuzzing
from .common import LlmGenerationCommon

#: Steps that one run takes in all.
STEPS = 10_000
SETTINGS = settings(
    fuzzing.SETTINGS,
    max_examples=160,
    stateful_step_count=100,
    phases=[Phase.explicit, Phase.generate],  # each step is slow: what failed is told as it came
)
#: Jobs of one machine, and how many of them may run at once.
JOBS, SLOTS = 4, 2

#: The contract, written down a second time: action -> the state it needs, the state it brings.
TABLE = {
    "action_queue": ({"draft"}, "queued"),
    "action_start": ({"queued"}, "queued"),
    "action_complete": ({"running"}, "completed"),
    "action_fail": ({"queued", "running"}, "failed"),
    "action_retry": ({"failed"}, "queued"),
    "action_cancel": ({"draft", "queued", "running"}, "cancelled"),
}
ENDED = {"completed", "failed", "cancelled"}
#: What a provider says of a running job -> the state that follows, and whether it is tried again.
SAYINGS = {
    "done": ({"state": "completed", "usage": {"prompt_tokens": 3}}, "completed", False),
    "works": ({"state": "running", "progress": 40}, "running", False),
    "accepted": ({"state": "queued"}, "running", False),
    "stopped": ({"state": "cancelled"}, "cancelled", False),
    "bad": ({"state": "failed", "error_type": "bad_request"}, "failed", False),
    "broken": ({"state": "failed", "error_message": "It broke."}, "failed", True),
    "limited": ({"state": "failed", "error_type": "rate_limited"}, "queued", False),
    "no credit": ({"state": "failed", "error_type": "quota"}, "queued", False),
}
#: What a provider does when a job is submitted -> the state that follows.
SUBMISSIONS = {
    "id": ("ext-7", "running"),
    "done": ({"state": "completed"}, "completed"),
    "bad": (exceptions.BadRequestError("No."), "failed"),
    "broken": (exceptions.TransientError("Later."), "failed"),
    "limited": (exceptions.RateLimitedError("Slower."), "queued"),
}
places = st.integers(0, JOBS - 1)


class Expected:
    """What the contract says about one job."""

    def __init__(self, job, max_retries):
        self.job, self.id, self.max_retries = job, job.id, max_retries
        self.state, self.retries, self.attempts = "draft", 0, 0
        self.external = self.is_old = self.waits = False

    def move(self, state):
        self.state, self.waits = state, False


class JobMachine(RuleBasedStateMachine):
    """Does at random what can be done to jobs, and compares with what the contract says."""

    steps = 0

    def __init__(self, test):
        super().__init__()
        self.test, self.jobs = test, []
        self.queue = test.queue
        self.savepoint = test.env.cr.savepoint()

    def teardown(self):
        self.savepoint.close(rollback=True)
        self.test.env.invalidate_all(flush=False)
        return super().teardown()

    @initialize()
    def begin(self):
        self.test.service.reset()

    def _pick(self, place):
        return self.jobs[place % len(self.jobs)] if self.jobs else None

    def _in(self, state):
        return [one for one in self.jobs if one.state == state]

    def _free(self):
        """Let no pause and no delay of an earlier step hold up the next claim."""
        self.queue.write({"paused_until": False, "refused_by": False})
        waiting = self.test.env["llm.generation.job"].browse(one.id for one in self._in("queued"))
        waiting.write({"scheduled_at": False, "is_scheduled": False})

    @rule(max_retries=st.integers(0, 2))
    def add(self, max_retries):
        if len(self.jobs) < JOBS:
            thread = self.test.threads[len(self.jobs)]
            job = self.test._create_job(thread_id=thread.id, max_retries=max_retries)
            self.jobs.append(Expected(job, max_retries))

    @rule(place=places, name=st.sampled_from(sorted(TABLE)))
    def act(self, place, name):
        one = self._pick(place)
        if not one:
            return
        sources, target = TABLE[name]
        allowed = one.state in sources
        if name == "action_retry":
            allowed = allowed and one.retries < one.max_retries
        try:
            getattr(one.job, name)()
        except UserError as refusal:
            assert not allowed, f"{name} was refused in {one.state}: {refusal}"
            assert len(str(refusal)) > 20, refusal
            return
        assert allowed, f"{name} was allowed in {one.state}"
        one.retries += name == "action_retry"
        one.move(target)

    @rule()
    def claim(self):
        self._free()
        may = bool(self._in("queued")) and len(self._in("running")) < SLOTS
        claims, _wait = self.test._engine()._claim(1, queue_ids=self.queue.ids)
        assert len(claims) == may, f"{len(claims)} claimed of {self._in('queued')}"
        for claim in claims:
            (one,) = (one for one in self._in("queued") if one.id == claim.job_id)
            one.attempts += 1
            one.external = False
            one.move("running")

    @rule(how=st.sampled_from(sorted(SUBMISSIONS)))
    def process(self, how):
        self._free()
        answer, state = SUBMISSIONS[how]
        self.test.service.answers["create"] = [answer]
        before = self._in("queued")
        slots = SLOTS - len(self._in("running"))
        started = self.test._process_queue()
        # What frees its slot lets the next one start; a rate limit holds up all the others.
        if how in {"id", "limited"}:
            most = min(slots, len(before)) if how == "id" else min(1, slots, len(before))
        else:
            most = len(before) if slots else 0
        assert started == most, f"{how}: {started} started, and not {most}"
        changed = 0
        for one in before:
            one.job.invalidate_recordset(["state", "attempt_count"])
            if one.job.attempt_count == one.attempts:
                continue
            changed += 1
            one.attempts += 1
            one.external = how == "id"
            one.move(state)
            one.waits = how == "broken" and one.retries < one.max_retries
        assert changed == most, f"{changed} were tried, and not {most}"

    @rule(place=places, saying=st.sampled_from(sorted(SAYINGS)), stale=st.booleans())
    def answer(self, place, saying, stale):
        one = self._pick(place)
        if not one:
            return
        said, state, again = SAYINGS[saying]
        token = one.job.attempt_token + stale
        counts = self.test._apply(self.test._claim_of(one.job, token), **said)
        assert counts == (one.state == "running" and not stale), (one.state, saying, stale)
        if counts:
            one.move(state)
            one.waits = again and one.retries < one.max_retries

    @rule(place=places, saying=st.sampled_from(sorted(SAYINGS)))
    def check_status(self, place, saying):
        one = self._pick(place)
        if not one:
            return
        said, state, again = SAYINGS[saying]
        self.test.service.answers["check"] = [dict(said)]
        try:
            answer = one.job.check_status()
        except UserError:
            assert one.state == "queued", f"asking was refused in {one.state}"
            return
        assert one.state != "queued", "a job that nobody sees was asked about"
        asked = one.state == "running" and one.external
        assert bool(answer) == asked, (one.state, answer)
        if asked:
            one.move(state)
            one.waits = again and one.retries < one.max_retries

    @rule()
    def retry_what_is_due(self):
        waiting = [one for one in self.jobs if one.waits]
        jobs = self.test.env["llm.generation.job"].browse(one.id for one in waiting)
        assert all(jobs.mapped("retry_at")), "a retry has no date"
        jobs.write({"retry_at": fields.Datetime.now() - timedelta(seconds=1)})
        assert self.test._engine()._retry_due() == len(waiting)
        for one in waiting:
            one.retries += 1
            one.move("queued")

    @rule(place=places)
    def age(self, place):
        one = self._pick(place)
        if one and one.state in ENDED:
            one.job.completed_at -= timedelta(days=8)
            one.is_old = True

    @rule()
    def clean_up(self):
        old = [one for one in self.jobs if one.state in ENDED and one.is_old]
        assert self.test.env["llm.generation.job"].cleanup_old_jobs(days=7) == len(old)
        for one in old:
            assert not one.job.exists(), "an old job is still there"
            self.jobs.remove(one)

    @invariant()
    def agrees(self):
        type(self).steps += 1
        jobs = self.test.env["llm.generation.job"].browse(one.id for one in self.jobs)
        jobs.env.flush_all()
        jobs.env.cr.execute(
            """SELECT j.id, state, retry_count, attempt_count, completed_at IS NOT NULL,
                   retry_at IS NOT NULL, started_at IS NOT NULL,
                   (SELECT count(*) FROM llm_generation_attempt a
                    WHERE a.job_id = j.id AND a.outcome = 'running')
               FROM llm_generation_job j WHERE j.id = ANY(%s)""",
            [jobs.ids],
        )
        found = {row[0]: row[1:] for row in jobs.env.cr.fetchall()}
        for one in self.jobs:
            one.is_old = one.is_old and one.state in ENDED
            state, retries, attempts, ended, waits, started, running = found[one.id]
            assert state == one.state, f"{state}, and not {one.state}"
            assert (retries or 0, attempts or 0) == (one.retries, one.attempts), state
            assert ended == (state in ENDED), state
            assert waits == one.waits, f"a retry: {waits}, and not {one.waits}"
            assert started or state != "running", "running since never"
            assert running == (state == "running"), f"{running} attempts run, {state}"
        assert len(self._in("running")) <= SLOTS


class TestFuzzJobs(LlmGenerationCommon):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.queue.max_concurrent_jobs = SLOTS
        cls.threads = [cls._create_thread() for _place in range(JOBS)]

    @mute_logger("odoo.addons.llm_generate_job")
    def test_jobs_do_what_the_contract_says(self):
        JobMachine.steps = 0
        run_state_machine_as_test(lambda: JobMachine(self), settings=SETTINGS)
        self.assertGreaterEqual(JobMachine.steps, STEPS)
