import logging
from collections import namedtuple
from datetime import timedelta

import psycopg2

from odoo import api, fields, models
from odoo.exceptions import UserError

from ..const import DEFAULT_ANSWER_TOKENS, TRANSITIONS
from ..runner.limits import BUDGET_LOCKS
from ..runner.statements import budget as sql
from .llm_generation_budget import Amount

_logger = logging.getLogger(__name__)

#: Seconds after which a retry looks again at a budget that somebody else is reserving.
LOOK_AGAIN = 30


class Wanted(namedtuple("Wanted", ["id", "subjects", "tokens"])):
    """A job that would be queued: whose budgets it takes of, and its estimated tokens."""

    __slots__ = ()


class LlmGenerationReservation(models.AbstractModel):
    """Takes of the budgets what enters a queue, with an estimate, and settles it at the end.

    Who reserves holds a lock until the end of the transaction; what others reserved is read in a
    transaction of its own, as the caller's snapshot may be older.
    """

    _name = "llm.generation.reservation"
    _description = "LLM Generation Reservation"
    _inherit = ["llm.generation.budget"]

    @api.model
    def _reserve(self, jobs, sources):
        """Reserve what these jobs are going to cost, until the transaction rolls back.

        :raise UserError: where a budget does not allow for all of them
        """
        if not jobs or not self._are_set():
            return
        wanted = self._wanted(jobs, sources)
        limits = self._limits_of(wanted)
        self._lock(limits)
        spent = self._spent_by_all(limits)
        needs = {}
        for job in wanted:
            for subject in limits.keys() & job.subjects:
                needs[subject] = needs.get(subject, Amount()).plus(1, job.tokens)
        self._check_all(limits, spent, needs)
        params = {
            "jobs": [job.id for job in wanted],
            "day": self._today(),
            "answer_tokens": DEFAULT_ANSWER_TOKENS,
        }
        self._change(sql.RESERVE, params, touches=["llm.generation.spending"])

    @api.model
    def _settle(self, jobs):
        """Put what jobs that ended really used in the place of what was reserved."""
        if self._are_set():
            self._change(sql.SETTLE, [jobs.ids], touches=["llm.generation.spending"])

    @api.model
    def _settle_late(self, token):
        """Count what an attempt really used that told it when its job had ended already."""
        if self._are_set():
            self._change(sql.SETTLE_LATE, [token], touches=["llm.generation.spending"])

    @api.model
    def _reserve_direct(self, user, company, tokens):
        """Reserve what an answer is going to cost that no job asks for.

        In a transaction of its own: it is spent whatever becomes of the caller's, and others who
        reserve do not have to wait for the answer.

        :return: what `_settle_direct()` wants
        :raise UserError: where a budget does not allow for it
        """
        if not self._are_set():
            return False
        limits = self._limits(user, company)
        params = {"day": self._today(), "user": user.id, "company": company.id, "tokens": tokens}
        try:
            with self._transaction() as own:
                spent = own._spent_when_free(limits)
                self._check_all(limits, spent, dict.fromkeys(limits, Amount(1, tokens)))
                touches = ["llm.generation.spending"]
                return own._change(sql.RESERVE_DIRECT, params, touches=touches)[0][0]
        except psycopg2.errors.LockNotAvailable:
            raise UserError(
                self.env._(
                    "Something else takes of this budget just now. Try again in a moment; code"
                    " that has queued jobs commits first."
                )
            ) from None

    @api.model
    def _settle_direct(self, spending_id, cost):
        """Put what an answer cost in the place of what was reserved for it.

        :param cost: see `runner.watch.Watch`
        """
        if not spending_id:
            return
        try:
            with self._transaction() as own:
                own.env["llm.generation.spending"].browse(spending_id).exists()._close(cost)
        except psycopg2.Error as error:
            # The answer is there, or its own error more telling: the estimate stays.
            _logger.warning("Spending %s is not settled: %s", spending_id, type(error).__name__)

    @api.model
    def _affordable(self, jobs):
        """Return those of some failed jobs that the budgets allow for, the first ones first."""
        return self._allot(jobs)[0]

    @api.model
    def _retriable(self, jobs):
        """Return those of some due jobs that may be tried again now.

        The others are put off to the next day; those that no day's budget allows for are not
        tried again.
        """
        affordable, undecided, refused = self._allot(jobs, wait=False)
        if undecided:
            undecided.retry_at = fields.Datetime.now() + timedelta(seconds=LOOK_AGAIN)
        never = jobs.browse()
        for job in self._wanted(refused, ("failed",)) if refused else ():
            limits = self._limits_of([job]).values()
            if not all(Amount(1, job.tokens).fits(limit) for limit in limits):
                never |= jobs.browse(job.id)
        if refused:
            refused.retry_at = self._tomorrow()
            never.write({"retry_at": False})
            self._call_hooks(never)
        return affordable

    @api.model
    def _allot(self, jobs, *, wait=True):
        """Split failed jobs by what the budgets allow for, the first ones first.

        :param bool wait: for others who are reserving just now
        :return: the jobs that are affordable, those of which nobody can tell now, the rest
        """
        if not jobs or not self._are_set():
            return jobs, jobs.browse(), jobs.browse()
        wanted = self._wanted(jobs, ("failed",))
        limits = self._limits_of(wanted)
        busy = self._lock(limits, wait=wait)
        spent, affordable, undecided = self._spent_by_all(limits), set(), set()
        for job in wanted:
            after = {
                subject: spent.get(subject, Amount()).plus(1, job.tokens)
                for subject in limits.keys() & job.subjects
            }
            if busy & job.subjects:
                undecided.add(job.id)
            elif all(amount.fits(limits[subject]) for subject, amount in after.items()):
                spent |= after
                affordable.add(job.id)
        first = jobs.filtered(lambda job: job.id in affordable)
        second = jobs.filtered(lambda job: job.id in undecided)
        return first, second, jobs - first - second

    # === STEPS === #

    @api.model
    def _check_all(self, limits, spent, needs):
        """Refuse what does not fit into one of these budgets."""
        for subject, need in sorted(needs.items()):
            self._check(subject, limits[subject], spent.get(subject, Amount()), need)

    @api.model
    def _spent_when_free(self, subjects):
        """Return what was spent today, once nobody else reserves of these budgets.

        :raise psycopg2.errors.LockNotAvailable: where that takes too long
        """
        self.env.cr.execute(sql.LOCK_PATIENCE)
        self._lock(subjects)
        return self._spent(subjects) if subjects else {}

    @api.model
    def _wanted(self, jobs, sources):
        rows = self._select(
            sql.WANTED,
            {
                "jobs": jobs.ids,
                "sources": [state for state in sources if state in TRANSITIONS["queued"]],
                "answer_tokens": DEFAULT_ANSWER_TOKENS,
            },
        )
        return [
            Wanted(job_id, frozenset({("user", user_id), ("company", company_id)}), int(tokens))
            for job_id, user_id, company_id, tokens in rows
        ]

    @api.model
    def _limits_of(self, wanted):
        ids = {"user": set(), "company": set()}
        for kind, record_id in set().union(*(job.subjects for job in wanted)):
            ids[kind].add(record_id)
        users = self.env["res.users"].browse(ids["user"])
        return self._limits(users, self.env["res.company"].browse(ids["company"] - {None}))

    @api.model
    def _lock(self, subjects, *, wait=True):
        """Let nobody else reserve of these budgets until the transaction ends.

        In the order of the subjects, so that two who wait for each other cannot be.

        :return: the subjects that somebody else holds; none when it waits for them
        """
        busy = set()
        for kind, record_id in sorted(subjects):
            statement = sql.LOCK if wait else sql.TRY_LOCK
            # One that takes too long is told to who asked, and is no error of the database.
            key = [BUDGET_LOCKS[kind], record_id]
            self.env.cr.execute(statement, key, log_exceptions=False)
            [(locked,)] = self.env.cr.fetchall()
            if not wait and not locked:
                busy.add((kind, record_id))
        return busy

    @api.model
    def _spent_by_all(self, subjects):
        """Return what was spent today, by others as they committed it, and by this transaction."""
        if not subjects:
            return {}
        [(xid,)] = self._select(sql.TRANSACTION)
        total = self._spent(subjects, xid=xid, own=True)
        with self._transaction() as now:
            for subject, others in now._spent(subjects, xid=xid, own=False).items():
                total[subject] = total.get(subject, Amount()).plus(*others)
        return total
