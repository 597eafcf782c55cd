import functools
import logging
import socket

import psutil

from odoo import api, fields, models
from odoo.modules import Manifest
from odoo.tools import parse_version

from ..const import AT_PROVIDER, RUNNER_CHANNEL
from ..protocol import backoff
from ..runner.limits import HEARTBEAT_TIMEOUT, LIVENESS_LOCK, TAKEN_ALONE
from ..runner.messages import Hello
from . import sql

_logger = logging.getLogger(__name__)

#: Seconds that the slots of a process stay held that is about to end, and its connections with it.
LEAVING = 10
#: This addon, and the first of the family: see `_newer_than_tables()`.
CORE, ROOT = "llm_generate_job", "llm"
#: The parameter that notes in which database the jobs were last run.
IDENTITY = "llm_generate_job.database_identity"


def _has_ended_here(name):
    """Return whether a runner was a process of this machine that has ended.

    The kernel has closed its connections then; those of another machine may stay open for long.
    """
    host, _colon, pid = name.partition(" ")[0].rpartition(":")
    return host == socket.gethostname() and pid.isdigit() and not psutil.pid_exists(int(pid))


@functools.cache
def _stands_on(module):
    """Return a module, and all that it depends on, by the manifests that this process has read."""
    manifest = Manifest.for_addon(module, display_warning=False)
    return {module}.union(*map(_stands_on, manifest["depends"] if manifest else ()))


@functools.lru_cache
def _is_newer(module, version):
    """Return whether the code that this process has of a module is newer than a version."""
    return parse_version(Manifest.for_addon(module)["version"]) > parse_version(version)


class LlmGenerationEngine(models.AbstractModel):
    """Life and death of runners, and what becomes of the jobs of one that is gone."""

    _inherit = "llm.generation.engine"

    @api.model
    def _newer_than_tables(self):
        """Return the modules whose code here is newer than what the database was upgraded to.

        A runner of such code would claim jobs, and have them answered, that it cannot complete.
        Code that is older than the tables is a server's that goes on while others are replaced.
        Asked about are this addon, what stands on it, and what it stands on of the family; Odoo's
        own modules are not.

        :return: their names, sorted
        """
        return self._newer(self._select(sql.VERSIONS, {"modules": self._own_modules()})[0][0])

    @api.model
    def _newer(self, versions):
        """Return the same by the versions that the database has, a dict."""
        return sorted(
            name for name, version in versions.items() if version and _is_newer(name, version)
        )

    @api.model
    def _own_modules(self):
        return [
            name
            for name in self.pool._init_modules
            if ROOT in _stands_on(name) and (CORE in _stands_on(name) or name in _stands_on(CORE))
        ]

    @api.model
    def _runner_slots(self, default):
        return self.env["llm.generation.queue"]._default_setting("runner_slots", default)

    @api.model
    def _executor(self, threads):
        """Return what executes the jobs that a runner claims now, an `Executor`.

        Nothing else knows which one it is; an addon that has another one overrides this.

        :param Threads threads: those of the runner
        """
        return threads

    @api.model
    def _register_runner(self, listener, name, slots, runner_id=None):
        """Sign a runner on, with a lock that says for as long as its connection lives that it does.

        :param Listener listener: the private connection
        :return: the runner's id
        """
        listener.execute(sql.LIVENESS_SESSION)
        before = runner_id
        while True:
            runner_id = self._runner_row(name, slots, runner_id)
            key = [LIVENESS_LOCK, runner_id]
            if listener.execute("SELECT pg_try_advisory_lock(%s, %s)", key)[0][0]:
                break
            runner_id = None  # a dead connection of ours still holds that lock
        if before and before != runner_id:
            # The row before will fall silent: the calls are those of the new one.
            with self._transaction() as engine:
                params = {"before": before, "runner": runner_id}
                engine._change(sql.MOVE_CALLS, params, touches=["llm.generation.attempt"])
        return runner_id

    @api.model
    def _runner_row(self, name, slots, runner_id=None):
        """Sign a runner on, or on again if nobody took it for dead; returns its id.

        Before the first in a copied database, the queues there that have work are disabled.
        """
        self._hold_if_copied()
        with self._transaction() as engine:
            runner = engine.env["llm.generation.runner"].browse(runner_id or 0).exists()
            now = fields.Datetime.now()
            values = {"name": name, "slots": slots, "started_at": now, "heartbeat_at": now}
            runner = runner or runner.create(values)
            runner.is_deaf = False  # by another connection, it may hear
            engine.env.flush_all()
            engine._change(sql.HEARTBEAT, [runner.id], touches=())
            return runner.id

    @api.model
    def _identity(self):
        """Return which database this is, by Odoo's own id of it; and by its name.

        Odoo gives a copy its id only after it has loaded the modules there.
        """
        # sudo: parameters are the administrators'.
        params = self.env["ir.config_parameter"].sudo()
        return f"{params.get_param('database.uuid')} {self.env.cr.dbname}"

    @api.model
    def _is_copied(self):
        """Return whether the jobs here are those of another database; None where nobody knows."""
        # sudo: as above. Not by `get_param()`: what is cached may be older than the lock.
        params = self.env["ir.config_parameter"].sudo()
        noted = params.search([("key", "=", IDENTITY)]).value
        return noted != self._identity() if noted else None

    @api.model
    def _hold_if_copied(self):
        """Disable, once, the queues with work of a database that is a copy of another one.

        That one may have done the work since. What ran there in a process that is not here is
        given back by the rescue, and waits as well; what a provider runs is asked about.
        """
        with self._transaction(waits=True) as engine:
            engine._select(sql.IDENTITY_LOCK)
            copied = engine._is_copied()
            if copied:
                engine._hold_queues()
            if copied is not False:
                # sudo: as above.
                params = engine.env["ir.config_parameter"].sudo()
                params.set_param(IDENTITY, engine._identity())

    def _hold_queues(self):
        rows = self._change(sql.HOLD_QUEUES, touches=["llm.generation.queue"])
        _logger.warning("This database is a copy: %s queues with work are disabled", len(rows))

        def words(env):
            return env._("The queue of a copied database waits for you"), env._(
                "This database was copied, or restored under another name, while jobs waited or"
                " ran. The database that it comes from may have run them since. Cancel those"
                " that must not run again, then resume the queue."
            )

        for queue in self.env["llm.generation.queue"].browse(row[0] for row in rows):
            self._tell_managers(queue, words)

    @staticmethod
    def _heartbeat(cr, runner_id):
        """Say that a runner lives; returns whether it still counts as alive.

        It needs no environment: who installs a module in this process keeps all others from
        theirs, for as long as that takes, and the calls go on meanwhile.
        """
        cr.execute(sql.HEARTBEAT, [runner_id])
        return bool(cr.rowcount)

    @api.model
    def _say_hello(self, runner_id):
        """Say to a runner, from another connection than its own, what it should hear."""
        with self._transaction() as engine:
            message = Hello((runner_id,))
            engine.env.cr.execute("SELECT pg_notify(%s, %s)", [RUNNER_CHANNEL, message.payload])

    @api.model
    def _note_hearing(self, runner_id, *, is_deaf):
        with self._transaction() as engine:
            engine.env["llm.generation.runner"].browse(runner_id).exists().is_deaf = is_deaf

    @api.model
    def _unregister_runner(self, runner_id):
        with self._transaction() as engine:
            params = {"runners": [runner_id], "seconds": LEAVING}
            engine._change(sql.SHORTEN_HOLDS, params, touches=())
            engine.env["llm.generation.runner"].browse(runner_id).exists().unlink()

    @api.model
    def _snooze_claims(self, claims):
        """Let jobs wait again whose process ends before they do; costs them no retry.

        One that is locked for longer than a moment, which may be by its own call, is rescued.
        """
        with self._transaction() as engine:

            def snooze(claim):
                for job in engine._fence([claim]):
                    if AT_PROVIDER.holds(job):  # it was begun there just now
                        engine._leave_at_provider(job)
                    else:
                        engine._snooze(job)

            engine._each(claims, snooze)

    @api.model
    def _rescue_lost(self, runner_id, tokens):
        """Give back the jobs of a live runner that it knows nothing of.

        The database went away between the claim and the call, or with the answer. What its provider
        runs already is asked about.
        """
        with self._transaction() as engine:
            rows = engine._select(sql.LOST, [runner_id, tokens])
            lost = engine.env["llm.generation.job"].browse(row[0] for row in rows)
            lost = lost.filtered(lambda job: engine._owner_of(job).id == runner_id)
            tokens_of = {job.id: job.attempt_token for job in lost}
            engine._each(lost, lambda job: engine._rescue_job(job, AT_PROVIDER.holds(job)))
            # No thread has them: no call goes on.
            if ended := lost.filtered(lambda job: job.state != "running"):
                engine._release_slots([tokens_of[job.id] for job in ended])
        return len(lost)

    @api.model
    def _rescue(self, timeout=HEARTBEAT_TIMEOUT):
        """Take care of the jobs of processes that died.

        An external job is adopted: whoever comes next asks about it. Any other is given back
        and counts a retry, as its provider may have done the work.

        After `TAKEN_ALONE` seconds of silence a runner has stopped its calls, whatever holds its
        lock: a session whose host is gone lives for hours.

        :param float timeout: seconds of silence after which a runner is dead whose lock is free
        """
        with self._transaction() as engine:
            dead = []
            params = {"silence": timeout, "alone": TAKEN_ALONE}
            for runner_id, is_alone in engine._select(sql.SILENT_RUNNERS, params):
                key = [LIVENESS_LOCK, runner_id]
                if is_alone or engine._select(sql.TRY_LIVENESS_LOCK, key)[0][0]:
                    dead.append(runner_id)
            external = dict(engine._select(sql.ORPHANS, [dead]))
            orphans = (
                engine
                .env["llm.generation.job"]
                .browse(external)
                .filtered(lambda job: not (owner := engine._owner_of(job)) or owner.id in dead)
            )
            engine._each(orphans, lambda job: engine._rescue_job(job, external[job.id]))
            # One that is left for the next time is an orphan then, too.
            engine._each(engine.env["llm.generation.runner"].browse(dead), engine._forget_runner)
        return len(orphans)

    def _forget_runner(self, runner):
        silence = (self.env.cr.now() - runner.heartbeat_at).total_seconds()
        seconds = 0 if _has_ended_here(runner.name) else max(0, TAKEN_ALONE - silence)
        params = {"runners": runner.ids, "seconds": seconds}
        self._change(sql.SHORTEN_HOLDS, params, touches=())
        runner.unlink()

    @api.model
    def _owner_of(self, job):
        """Return the runner of a locked job's attempt.

        A statement that waits for no lock may have seen the one before: an attempt can be taken
        over by another process.
        """
        return self.env["llm.generation.attempt"].browse(job.attempt_token).exists().runner_id

    @api.model
    def _rescue_job(self, job, external):
        _logger.warning("Job %s: the process that ran it is gone", job.id)
        if external:
            self._leave_at_provider(job)
            return
        attempt = self.env["llm.generation.attempt"].browse(job.attempt_token).exists()
        died = {
            "error_type": "worker_died",
            "error_message": self._speaking_to(job.user_id)._death_of(attempt),
        }
        # Where its runner's row is gone, nothing would shorten the hold of a slot: no call goes on.
        died["call_ended"] = not attempt.runner_id
        deaths = 1 + len(
            job.attempt_ids.filtered(
                lambda a: a.error_type == "worker_died" and a.number > job.attempt_base
            )
        )
        if deaths >= backoff.MAX_WORKER_DEATHS or job.retry_count >= job.max_retries:
            job._set_state("failed", **died)
            return
        job.retry_count += 1
        self._snooze(job, **died)

    @api.model
    def _leave_at_provider(self, job):
        """Have whoever comes next ask about a job that its provider runs."""
        self.env["llm.generation.attempt"].browse(job.attempt_token).exists().runner_id = False
        job.next_poll_at = self.env.cr.now().replace(microsecond=0)

    @api.model
    def _death_of(self, attempt):
        """Return what is told of an attempt whose process is gone."""
        return self.env._("The server process that ran the job died.")
