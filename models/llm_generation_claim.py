import json

from odoo import api, models

from ..runner import ratelimit
from ..runner.answer import Claim
from ..runner.lazy_cursor import read_committed
from ..runner.statements import queueing as sql


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
        :return: the claims, and the seconds until a rate limit lets more through (or None)
        """
        claims, waits = [], []
        with self._transaction() as engine:
            ready = engine._select(sql.READY_QUEUES, {"queue_ids": queue_ids})
            for (queue_id,) in ready:
                engine._next_transaction()
                some, wait = engine._claim_from(
                    queue_id, slots - len(claims), runner_id, runner_name
                )
                claims += some
                waits += [wait] if wait else []
                if len(claims) >= slots:
                    break
        return claims, min(waits, default=None)

    def _next_transaction(self):
        """Commit, and begin another transaction that sees what others commit."""
        self.env.cr.commit()
        read_committed(self.env.cr)

    @api.model
    def _claim_from(self, queue_id, slots, runner_id, runner_name):
        locked = self._select(sql.LOCK_QUEUE, [queue_id])
        if not locked:
            return [], None
        provider_id, limit, *per_minute = locked[0]
        levels, tokens = {"requests": 0.0, "tokens": 0.0}, None
        model_slots = dict(self._select(sql.MODEL_SLOTS, [queue_id]))
        if any(per_minute):
            levels, wait = self._fill_bucket(queue_id, *per_minute)
            if wait:
                return [], wait
            slots = min(slots, int(levels["requests"])) if per_minute[0] else slots
            tokens = levels["tokens"] if per_minute[1] else None
        rows = self._change(
            sql.CLAIM,
            {
                "provider": provider_id,
                "limit": limit,
                "slots": slots,
                "runner": runner_id,
                "runner_name": runner_name,
                "tokens": tokens,
                "full_models": [model for model, free in model_slots.items() if free <= 0],
                "model_slots": json.dumps(model_slots),
            },
        )
        if rows:
            levels["requests"] -= len(rows)
            levels["tokens"] -= sum(row[2] or 0 for row in rows)
            self._change(sql.WRITE_BUCKET, {"queue": queue_id, **levels}, touches=())
        claims = [Claim(job_id, token) for job_id, token, _estimate in rows]
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
