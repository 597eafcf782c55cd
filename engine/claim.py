import logging

import psycopg2

from odoo import api, models
from odoo.exceptions import AccessError
from odoo.tools import ormcache

from ..protocol import ratelimit
from ..protocol.answer import Claim
from ..runner.executor import JobContext
from . import sql

_logger = logging.getLogger(__name__)

#: Seconds until a queue that somebody holds is looked at again.
LOOK_AGAIN = 0.05

#: Seconds until a queue is looked at again whose provider has its share of the threads.
SHARE_AGAIN = 0.25
#: Seconds that a slot is held at most whose queue has a short timeout, and one that has none.
SHORTEST_HOLD, LONGEST_HOLD = 600, 3600
#: Errors after which nothing runs at the provider any more.
ENDED_AT_PROVIDER = ("provider_failed", "cancelled")
#: What a provider's code reads of a job's surroundings.
READ_FIELDS = ("thread_id", "model_id", "provider_id")
#: Jobs up to which one statement reads all: for more it would repeat the same models.
FEW = 16

#: What a provider's code reads of a job and its surroundings, and how a statement calls them.
READ_MODELS = {
    "llm.generation.job": "j",
    "llm.thread": "t",
    "llm.model": "m",
    "llm.provider": "p",
}


class LlmGenerationEngine(models.AbstractModel):
    """Takes jobs from their queues: never more than the limits, by one process, once.

    The queue's row is locked by one statement and the running jobs are counted by the next, in a
    transaction that sees what others have committed meanwhile.
    """

    _inherit = "llm.generation.engine"

    @api.model
    def _claim(self, slots, runner_id=None, runner_name=None, queue_ids=None):
        """Take as many jobs as there are slots here and in their queues.

        :param int slots: jobs that this process can run besides those it runs
        :param list queue_ids: the queues to look at, None for all
        :return: the claims, and when to look again at which queues, as `{queue id: seconds}`: a
            rate limit lets more through then, or who holds the queue may have let go of it
        """
        with self._transaction() as engine:
            return engine._claim_here(slots, runner_id, runner_name, queue_ids)

    def _claim_here(self, slots, runner_id, runner_name, queue_ids, busy=None):
        """Claim in this very transaction, which commits after each queue.

        :param busy: how many threads of this process each provider has, a `Counter` by id, if they
            are to be shared
        """
        claims, waits = [], {}
        # A single queue needs no search for those that have something.
        if not queue_ids or len(queue_ids) > 1:
            rows = self._select(sql.READY_QUEUES, {"queue_ids": queue_ids, "even_full": False})
            queue_ids = [row[0] for row in rows]
        for queue_id in queue_ids:
            free = slots - len(claims)
            try:
                some, wait = self._claim_from(queue_id, free, runner_id, runner_name, busy)
            except psycopg2.errors.LockNotAvailable:
                self.env.cr.rollback()
                some, wait = [], LOOK_AGAIN
            if busy is not None:
                busy.update(claim.provider_id for claim in some)
            self.env.cr.commit()  # pylint: disable=invalid-commit
            claims += some
            if wait:
                waits[queue_id] = wait
            if len(claims) >= slots:
                break
        return claims, waits

    def _claim_from(self, queue_id, slots, runner_id, runner_name, busy=None):
        locked = self._select(sql.LOCK_QUEUE, [queue_id])
        if not locked:
            # Another claimer, or business code that changes the queue, holds it; or it is closed.
            params = {"queue_ids": [queue_id], "even_full": False}
            return [], LOOK_AGAIN if self._select(sql.READY_QUEUES, params) else None
        has_room, provider_id, limit, *told = locked[0]
        has_model_limits, has_bucket, *per_minute, timeout, others = told
        if not has_room:
            return [], None
        free, slots = slots, self._share(slots, provider_id, limit, others, busy)
        if not slots:
            return [], SHARE_AGAIN
        is_short = slots < free
        if not has_bucket:
            self._change(sql.OPEN_BUCKET, [queue_id], touches=())
        levels = [0.0, 0.0]
        if any(per_minute):
            levels, wait = self._fill_bucket(queue_id, per_minute)
            if wait:
                return [], wait
            slots = min(slots, int(levels[0])) if per_minute[0] else slots
        params = {
            "queue": queue_id,
            "provider": provider_id,
            "limit": limit,
            "runner": runner_id,
            "runner_name": runner_name,
        }
        claims, rows = [], True
        # Behind the jobs of a model that has just reached its limit, others may wait that can
        # start: each turn leaves out the models that are full by now.
        while rows and len(claims) < slots and (has_model_limits or not claims):
            params |= {
                "slots": slots - len(claims),
                "tokens": levels[1] if per_minute[1] else None,
                "request_level": levels[0],
                "token_level": levels[1],
            }
            rows = self._change(sql.CLAIM, params, touches=())  # nothing of them was read here
            levels[0] -= len(rows)
            levels[1] -= sum(row[3] or 0 for row in rows)
            claims += [Claim(*row[:3], timeout or None, provider_id) for row in rows]
        wait = self._bucket_wait(levels, per_minute)
        if is_short and len(claims) >= slots:
            wait = max(wait or 0.0, SHARE_AGAIN)
        return claims, wait

    @api.model
    def _share(self, free, provider_id, limit, others, busy):
        """Return how many of this process's free threads a provider may have now.

        All that the others have no right to. Each of those that are in use has one to an equal
        share, or to its limit if that is less: however many providers do not answer, one that does
        finds its threads. Where less is left than they may ask for, each gets a part of it.

        :param others: the other providers that are in use and their limits, `(id, limit)` pairs
        """
        if busy is None:
            return free
        equal = max(1, (free + busy.total()) // (len(others) + 1))
        owed = max(0, min(limit, equal) - busy[provider_id])
        reserved = sum(max(0, min(most, equal) - busy[other]) for other, most in others)
        part = -(-free * owed // (owed + reserved)) if owed else 0
        return max(part, free - reserved)

    @api.model
    def _fill_bucket(self, queue_id, per_minute):
        """Return the bucket's levels now, and the seconds until a job may start (or None).

        Both levels and limits are first of requests, then of tokens.
        """
        *levels, elapsed = self._select(sql.READ_BUCKET, [queue_id])[0]
        levels = [
            ratelimit.refill(level, limit, float(elapsed))
            for level, limit in zip(levels, per_minute, strict=True)
        ]
        return levels, self._bucket_wait(levels, per_minute)

    @api.model
    def _bucket_wait(self, levels, per_minute):
        pairs = zip(levels, per_minute, strict=True)
        waits = (ratelimit.wait_for(level, limit) for level, limit in pairs if limit)
        return max(waits, default=0.0) or None

    @api.model
    def _create_queue(self, provider_id):
        """Make the queue of a provider, or find the one that another process just made."""
        # sudo: a user's first job makes the queue, which only managers may.
        queues = self.env["llm.generation.queue"].sudo()
        with self._transaction(waits=True) as engine:
            env = engine.env
            if not queues.provider_id.browse(provider_id).with_env(env).exists():
                env = None  # made in the caller's transaction: nobody else knows it yet
            else:
                env.cr.execute(
                    "SELECT pg_advisory_xact_lock(hashtext('llm_generation_queue'), %s)",
                    [provider_id],
                )
                made = env["llm.generation.queue"].search([("provider_id", "=", provider_id)])
                made = made or env["llm.generation.queue"].create({"provider_id": provider_id})
                env.flush_all()
                names = [name for name, field in made._fields.items() if field.column_type]
                values = made._read_format(names, load=None)[0]
        if env is None:
            return queues.create({"provider_id": provider_id})
        # The caller's snapshot is older than that commit and will not show its row: what was
        # read elsewhere serves for the rest of this transaction.
        queue = queues.browse(values["id"])
        for name in names:
            queue._fields[name]._update_cache(queue, values[name] or None)
        return queue

    # === HELD SLOTS === #
    # A slot is free when the call has ended, not when its job has.

    @api.model
    def _hold_slots(self, jobs):
        """Keep the slots of jobs that somebody else than their call ends, until it has ended.

        Nobody knows that of each: a slot is held no longer than a job may run, but for as long as
        libraries wait between two bytes.
        """
        params = {"jobs": jobs.ids, "shortest": SHORTEST_HOLD, "longest": LONGEST_HOLD}
        self._change(sql.HOLD_SLOTS, params, touches=())

    @api.model
    def _release_slots(self, tokens):
        """Free the slots of attempts whose calls have ended."""
        self._slots_are_free(self._change(sql.RELEASE_SLOTS, {"tokens": tokens}, touches=()))

    def _slots_are_free(self, rows):
        if queue_ids := {row[0] for row in rows} - {None}:
            self._wake_for_slots(queue_ids)

    # === PREFETCH === #
    # Reads, for many claimed jobs in one short transaction, all that providers will want.

    @api.model
    def _take(self, slots, runner_id, runner_name, queue_ids=None, busy=None):
        """Claim jobs, and prepare them over the same connection.

        :param busy: see `_claim_here()`
        :return: how many were claimed, their job contexts, and when to look again, as in `_claim()`
        """
        with self._transaction() as prefetch:
            claims, waits = prefetch._claim_here(slots, runner_id, runner_name, queue_ids, busy)
            return len(claims), prefetch._job_contexts(claims) if claims else [], waits

    @api.model
    def _prefetch(self, claims):
        """Return the job contexts of the claims whose jobs still exist."""
        with self._transaction() as prefetch:
            return prefetch._job_contexts(claims)

    def _job_contexts(self, claims):
        claim_of = {claim.job_id: claim for claim in claims}
        jobs = self._read_all(list(claim_of))
        earlier = self._earlier_tries(jobs)
        job_contexts = []
        for (user, _company), mine in jobs.grouped(lambda j: (j.user_id, j.company_id)).items():
            context = self._owner_context(mine[0])
            own = mine.with_user(user).with_context(**context)
            readable = {name: self._readable(own[name]) for name in READ_FIELDS}
            values = {}
            for records in (own, *readable.values()):
                values |= self._cached_values(records)
            for job in own:
                refs = [job[name] for name in READ_FIELDS]
                refused = [ref for ref in refs if (ref._name, ref.id) not in values]
                kept = [(record._name, record.id) for record in (job, *refs)]
                job_contexts.append(
                    JobContext(
                        claim=claim_of[job.id],
                        user_id=user.id,
                        context=context,
                        values={key: values.get(key, {}) for key in kept},
                        refusal=self._refusal(job, refused, claim_of[job.id].owner_is_active),
                        earlier_job=earlier.get(job.id, ""),
                    )
                )
        return job_contexts

    @api.model
    def _readable(self, records):
        """Return the records that their user may read: none where a rule of another addon fails.

        What was claimed with them has other owners.
        """
        try:
            return records._filtered_access("read")
        except psycopg2.Error:
            raise
        except Exception:
            _logger.exception("Whether user %s may read %s is unknown", records.env.uid, records)
            return records.browse()

    @api.model
    def _read_all(self, ids):
        """Return those of the jobs that exist, in their order; what follows reads from the cache.

        One statement a model, and one in all for a few jobs: between a claim and its call, each
        costs time that somebody waits.
        """
        jobs = self.env["llm.generation.job"].browse(ids)
        if len(ids) <= FEW:
            self._read_surroundings(ids)
        jobs.fetch(self._columns(jobs._name))
        exist = jobs._fields["state"]._get_cache(jobs.env)
        jobs = jobs.browse(job_id for job_id in ids if job_id in exist)
        for name in READ_FIELDS:
            records = jobs[name]
            records.fetch(self._kept_names(records._name))
        return jobs

    @api.model
    @ormcache("model")
    def _kept_names(self, model):
        """Return the fields whose values go with a job context: what any owner of it may read."""
        fields_ = self.env[model]._fields
        return [name for name in self._plain_columns(model) if not fields_[name].groups]

    @api.model
    def _earlier_tries(self, jobs):
        """Return the provider's ids of what the attempts before may have left running, by job."""
        tried = jobs.filtered(lambda job: job.attempt_count > 1)
        if not tried:
            return {}
        last = {}
        for attempt in self.env["llm.generation.attempt"].search(
            [("job_id", "in", tried.ids), ("outcome", "!=", "running")], order="id"
        ):
            last[attempt.job_id.id] = attempt
        return {
            job_id: attempt.external_job_id
            for job_id, attempt in last.items()
            if attempt.external_job_id and attempt.error_type not in ENDED_AT_PROVIDER
        }

    @api.model
    def _cached_values(self, records):
        """Return the cache values that the owner of the records may read, by model and id."""
        names = self._kept_names(records._name)
        caches = [(name, records._fields[name]._get_cache(records.env)) for name in names]
        return {
            (records._name, record_id): {
                name: cache[record_id] for name, cache in caches if record_id in cache
            }
            for record_id in records.ids
        }

    def _refusal(self, job, refused, owner_is_active):
        """Return why a job may not run in its owner's name, for them, empty where it may."""
        # sudo: a user may not read whether they were archived.
        user = job.user_id.sudo()
        if user._is_superuser():  # who counts as archived, too
            if job.sudo().thread_id.tool_ids:
                return job.env._("Tools do not run as OdooBot. Give the thread another owner.")
        elif owner_is_active is False or (owner_is_active is None and not user.active):
            return job.env._("The user %s was archived; nothing runs in their name.", user.name)
        if refused:
            # sudo: how a model is called is no secret.
            what = job.env["ir.model"]._get(refused[0]._name).sudo().name
            return job.env._("%(user)s may no longer use this %(what)s.", user=user.name, what=what)
        return ""

    @api.model
    def _recall(self, job_context, recorder, execution=None):
        """Return the job of a job context in its owner's environment, without asking the database.

        :param CallRecorder recorder: of what the provider is asked for this job
        :param Execution execution: by which others hang up on the call
        :raise AccessError: when its owner may not have it run
        """
        if job_context.refusal:
            raise AccessError(job_context.refusal)
        for (model, record_id), values in job_context.values.items():
            fields_ = self.env.registry[model]._fields
            for name, value in values.items():
                fields_[name]._get_cache(self.env)[record_id] = value
        context = {
            **self.env.context,
            **job_context.context,
            "generation_recorder": recorder,
            "llm_on_response": execution and execution.on_response,
        }
        env = self.env(user=job_context.user_id, context=context, su=False)
        job = env["llm.generation.job"].browse(job_context.claim.job_id)
        recorder.thread_id = job.thread_id.id
        recorder.questions[job.thread_id.id] = job.input_message_id
        return job

    # === STATEMENTS OF THE PREFETCH === #
    # Fills the cache with jobs and their surroundings by statements whose text is made once.
    #
    # The ORM makes it anew each time, which takes longer than PostgreSQL does: between a call's end
    # and the next one's begin that is time in which a slot is empty.

    @api.model
    def _read_surroundings(self, ids):
        """Read jobs with their threads, models and providers."""
        statement, columns = self._surroundings_statement()
        rows = self._select(statement, [ids])
        if not rows:
            return
        end = len(READ_MODELS)
        for place, model in enumerate(READ_MODELS):
            count = len(columns[model])
            self._remember(model, {row[place]: row[end : end + count] for row in rows})
            end += count

    @api.model
    def _remember(self, model, values):
        """Put rows into the cache, where it has no values yet.

        :param dict values: `{id: values of _plain_columns()}`
        """
        records = self.env[model].browse(values)
        columns = zip(*values.values(), strict=True)
        for name, column in zip(self._plain_columns(model), columns, strict=False):
            records._fields[name]._insert_cache(records, column)

    @api.model
    @ormcache()
    def _surroundings_statement(self):
        columns = {model: self._plain_columns(model) for model in READ_MODELS}
        names = (f'{READ_MODELS[model]}."{name}"' for model in columns for name in columns[model])
        return sql.READ_SURROUNDINGS.format(columns=", ".join(names)), columns

    @api.model
    @ormcache()
    def _fence_statements(self):
        """Return the statements that lock jobs: those that are free, and all."""
        names = ", ".join(f'j."{name}"' for name in self._plain_columns("llm.generation.job"))
        return sql.FENCE_FREE.format(columns=names), sql.FENCE.format(columns=names)

    @api.model
    @ormcache("model")
    def _plain_columns(self, model):
        """Return the columns that are in the cache as they are in the table, for any owner."""
        contextual, fields_ = self.pool.field_depends_context, self.env[model]._fields
        return [
            name
            for name in self._columns(model)
            if name != "id"
            and not fields_[name].translate  # a column of all languages
            and fields_[name] not in contextual
            and (model == "llm.generation.job" or not fields_[name].groups)
        ]

    @api.model
    @ormcache("model")
    def _columns(self, model):
        fields_ = self.env[model]._fields.items()
        return [name for name, field in fields_ if field.store and field.column_type]
