from odoo import api, models

from ..runner import ratelimit
from ..runner.answer import Claim
from ..runner.statements import queueing as sql

#: Seconds until a queue that somebody holds is looked at again.
LOOK_AGAIN = 0.05


class LlmGenerationClaim(models.AbstractModel):
    """Takes jobs from their queues: never more than the limits, by one process, once.

    The queue's row is locked by one statement and the running jobs are counted by the next, in a
    transaction that sees what others have committed meanwhile.
    """

    _name = "llm.generation.claim"
    _description = "LLM Generation Claim"
    _inherit = ["llm.generation.engine"]

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

    def _claim_here(self, slots, runner_id, runner_name, queue_ids):
        """Claim in this very transaction, which commits after each queue."""
        claims, waits = [], {}
        # A single queue needs no search for those that have something.
        if not queue_ids or len(queue_ids) > 1:
            rows = self._select(sql.READY_QUEUES, {"queue_ids": queue_ids, "even_full": False})
            queue_ids = [row[0] for row in rows]
        for queue_id in queue_ids:
            some, wait = self._claim_from(queue_id, slots - len(claims), runner_id, runner_name)
            self.env.cr.commit()  # pylint: disable=invalid-commit
            claims += some
            if wait:
                waits[queue_id] = wait
            if len(claims) >= slots:
                break
        return claims, waits

    def _claim_from(self, queue_id, slots, runner_id, runner_name):
        locked = self._select(sql.LOCK_QUEUE, [queue_id])
        if not locked:
            # Another claimer, or business code that changes the queue, holds it; or it is closed.
            params = {"queue_ids": [queue_id], "even_full": False}
            return [], LOOK_AGAIN if self._select(sql.READY_QUEUES, params) else None
        has_room, provider_id, limit, has_model_limits, *per_minute = locked[0]
        if not has_room:
            return [], None
        levels, tokens = {"requests": 0.0, "tokens": 0.0}, None
        if any(per_minute):
            levels, wait = self._fill_bucket(queue_id, *per_minute)
            if wait:
                return [], wait
            slots = min(slots, int(levels["requests"])) if per_minute[0] else slots
            tokens = levels["tokens"] if per_minute[1] else None
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
                "tokens": tokens,
                "request_level": levels["requests"],
                "token_level": levels["tokens"],
            }
            rows = self._change(sql.CLAIM, params, touches=())  # nothing of them was read here
            spent = sum(row[3] or 0 for row in rows)
            levels["requests"] -= len(rows)
            levels["tokens"] -= spent
            tokens = None if tokens is None else tokens - spent
            claims += [Claim(*row[:3]) for row in rows]
        return claims, self._bucket_wait(levels, *per_minute)

    @api.model
    def _fill_bucket(self, queue_id, requests_per_minute, tokens_per_minute):
        """Return the bucket's levels now, and the seconds until a job may start (or None)."""
        requests, tokens, elapsed = self._change(sql.READ_BUCKET, [queue_id], touches=())[0]
        levels = {
            "requests": ratelimit.refill(requests, requests_per_minute, float(elapsed)),
            "tokens": ratelimit.refill(tokens, tokens_per_minute, float(elapsed)),
        }
        return levels, self._bucket_wait(levels, requests_per_minute, tokens_per_minute)

    @api.model
    def _bucket_wait(self, levels, requests_per_minute, tokens_per_minute):
        waits = []
        if requests_per_minute:
            waits.append(ratelimit.wait_for(levels["requests"], requests_per_minute))
        if tokens_per_minute:
            waits.append(ratelimit.wait_for(levels["tokens"], tokens_per_minute))
        return max(waits, default=0.0) or None

    @api.model
    def _create_queue(self, provider_id):
        """Make the queue of a provider, or find the one that another process just made."""
        # sudo: a user's first job makes the queue, which only managers may.
        queues = self.env["llm.generation.queue"].sudo()
        with self._transaction() as engine:
            env = engine.env
            if not env["llm.provider"].browse(provider_id).exists():
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
