import logging
from collections import namedtuple
from datetime import datetime, time, timedelta

import psycopg2

from odoo import api, fields, models, tools
from odoo.exceptions import UserError

from odoo.addons.llm_generate_job.const import DEFAULT_ANSWER_TOKENS, TRANSITIONS

from .. import statements as sql
from ..const import BUDGET_LOCKS

#: Managers who are named to a user whose budget is used up.
NAMED = 3


class Amount(namedtuple("Amount", ["jobs", "tokens"], defaults=[0, 0])):
    """Jobs and tokens; as a limit, 0 is none."""

    __slots__ = ()

    def plus(self, jobs, tokens):
        """Return the sum of this and another amount."""
        return Amount(self.jobs + jobs, self.tokens + tokens)

    def fits(self, limit):
        """Return whether it is within a limit."""
        return all(most == 0 or some <= most for most, some in zip(limit, self, strict=True))


_logger = logging.getLogger(__name__)

#: Seconds after which a retry looks again at a budget that somebody else is reserving.
LOOK_AGAIN = 30


class Wanted(namedtuple("Wanted", ["id", "subjects", "tokens"])):
    """A job that would be queued: whose budgets it has to fit, and its estimated tokens."""

    __slots__ = ()


class LlmGenerationEngine(models.AbstractModel):
    """What users and companies may spend in a day, which is one of UTC, and what they spent.

    Without any budget there is no statement at all.
    """

    _inherit = "llm.generation.engine"

    # === LIMITS === #

    @api.model
    @tools.ormcache()
    def _are_set(self):
        """Return whether anybody has a budget."""
        return any(
            # sudo: whether there is a budget depends on nobody who asks.
            self.env[name].sudo().with_context(active_test=False).search_count(domain, limit=1)
            for name, domain in (
                ("res.company", self.env["res.company"]._budget_domain()),
                ("res.users", self.env["res.users"]._budget_domain()),
            )
        )

    @api.model
    def _limits(self, users, companies):
        """Return those budgets of users and companies that are one, by `(kind, id)`."""
        if not self._are_set():
            return {}
        # sudo: users may not read their budgets, and are bound by them all the same.
        limits = {("user", user.id): Amount(*user._daily_budget()) for user in users.sudo()}
        for company in companies.sudo():
            limits["company", company.id] = Amount(company.llm_daily_jobs, company.llm_daily_tokens)
        return {subject: limit for subject, limit in limits.items() if any(limit)}

    @api.model
    def _binding_companies(self, user, provider, company):
        """Return the companies whose budgets an answer has to fit that one of them pays.

        With a provider that all companies share, all of the user's: users choose which one pays.
        """
        # sudo: whose provider it is, and whose users, does not depend on who asks.
        return company if provider.sudo().company_id else company | user.sudo().company_ids

    @api.model
    def _today(self):
        return fields.Datetime.now().date()

    @api.model
    def _tomorrow(self):
        """Return the moment from which the budgets are free again."""
        return datetime.combine(self._today() + timedelta(days=1), time.min)

    @api.model
    def _spent(self, subjects, **transaction):
        """Return what was spent today by each of the subjects.

        :param transaction: `xid` and `own`, to count what this transaction spent, or all others;
            `without` the ids of some
        """
        params = {
            "day": self._today(),
            "users": [record_id for kind, record_id in subjects if kind == "user"],
            "companies": [record_id for kind, record_id in subjects if kind == "company"],
            "xid": "",
            "own": False,
            "without": [],
            **transaction,
        }
        rows = self._select(sql.SPENT, params)
        return {
            (kind, record_id): Amount(int(jobs), int(tokens))
            for kind, record_id, jobs, tokens in rows
        }

    @api.model
    def _left(self, user, companies):
        """Return the jobs and tokens that are left today, None for what has no limit."""
        limits = self._limits(user, companies)
        spent = self._spent(limits) if limits else {}
        return [
            min(
                (
                    max(0, limit[kind] - spent.get(subject, Amount())[kind])
                    for subject, limit in limits.items()
                    if limit[kind]
                ),
                default=None,
            )
            for kind in (0, 1)
        ]

    @api.model
    def _left_sentence(self, user, companies):
        """Return what is left today as one sentence, an empty text where nothing is limited."""
        jobs, tokens = self._left(user, companies)
        if jobs is None and tokens is None:
            return ""
        if tokens is None:
            return self.env._("Left of today's budget: %(jobs)s jobs.", jobs=jobs)
        if jobs is None:
            return self.env._("Left of today's budget: %(tokens)s tokens.", tokens=tokens)
        return self.env._(
            "Left of today's budget: %(jobs)s jobs, %(tokens)s tokens.", jobs=jobs, tokens=tokens
        )

    @api.model
    def _spent_sentence(self, kind, record, limit):
        """Return what a user or a company spent today, and its limits, as one sentence."""
        if not record.id or not self._are_set():
            return ""
        spent = self._spent([(kind, record.id)]).get((kind, record.id), Amount())
        most = [some or "∞" for some in limit]
        return self.env._(
            "%(jobs)s of %(most_jobs)s jobs, %(tokens)s of %(most_tokens)s tokens",
            jobs=spent.jobs,
            most_jobs=most[0],
            tokens=spent.tokens,
            most_tokens=most[1],
        )

    # === REFUSALS === #

    @api.model
    def _check(self, subject, limit, spent, need):
        """Refuse what does not fit into a budget, with the reason and a way out."""
        kind, record_id = subject
        model = "res.users" if kind == "user" else "res.company"
        # sudo: only the name of whose budget it is.
        names = {"who": self.env[model].sudo().browse(record_id).name}
        if limit.jobs and spent.jobs + need.jobs > limit.jobs:
            names |= {"limit": limit.jobs, "used": spent.jobs, "need": need.jobs}
            what = self.env._(
                "The budget of %(who)s is %(limit)s jobs a day: %(used)s are used, and this needs"
                " %(need)s.",
                **names,
            )
        elif limit.tokens and spent.tokens + need.tokens > limit.tokens:
            names |= {"limit": limit.tokens, "used": spent.tokens, "need": need.tokens}
            what = self.env._(
                "The budget of %(who)s is %(limit)s tokens a day: %(used)s are used or reserved,"
                " and this needs about %(need)s.",
                **names,
            )
        else:
            return
        refusal = f"{what} {self._way_out(need.fits(limit))}"
        raise UserError(refusal)

    @api.model
    def _way_out(self, some_day):
        whom = self._whom_to_ask()
        if not some_day:
            return self.env._(
                "That is more than a whole day's budget: ask for less, or have it raised by"
                " %(whom)s.",
                whom=whom,
            )
        when = tools.format_datetime(self.env, self._tomorrow(), tz=self.env.user.tz or "UTC")
        return self.env._(
            "It is free again on %(when)s. To have it raised, ask %(whom)s.", when=when, whom=whom
        )

    @api.model
    def _whom_to_ask(self):
        # sudo: only the names of those to ask, and of nobody of other companies.
        group = self.env.ref("llm.group_llm_manager").sudo()
        managers = group.all_user_ids.filtered(
            lambda user: user.active and user.company_ids & self.env.user.company_ids
        )
        names = [user.name for user in managers if not user._is_superuser()]
        return ", ".join(names[:NAMED]) or self.env._("an administrator")

    # === RESERVATION === #
    #
    # Takes of the budgets what enters a queue, with an estimate, and settles it at the end.
    #
    # Who reserves holds a lock until the end of the transaction; what others reserved is read in a
    # transaction of its own, as the caller's snapshot may be older.

    @api.model
    def _reserve(self, jobs, sources):
        """Reserve what these jobs are going to cost, until the transaction rolls back.

        :raise UserError: where a budget does not allow for all of them
        """
        if not jobs or not self._are_set():
            return
        sources = [state for state in sources if state in TRANSITIONS["queued"]]
        wanted = self._wanted(jobs, sources)
        limits = self._limits_of(wanted)
        self._lock_patiently(limits)
        self._check_all(limits, self._spent_by_all(limits), self._needs(wanted, limits))
        params = {
            "jobs": [job.id for job in wanted],
            "day": self._today(),
            "answer_tokens": DEFAULT_ANSWER_TOKENS,
        }
        self._change(sql.RESERVE, params, touches=["llm.generation.spending"])

    @api.model
    def _rejoin(self, jobs):
        """Have the companies pay for these waiting jobs that their new providers belong to.

        :raise UserError: where the budget of one that did not allow for them before has no room;
            what was tried already is given back by who cannot ask, and counts there all the same
        """
        if self._are_set():
            self._rebook(jobs)
        return super()._rejoin(jobs)

    def _rebook(self, jobs):
        # sudo: what was reserved is the engine's.
        Spending = self.env["llm.generation.spending"].sudo()
        reserved = Spending.search([("job_id", "in", jobs.ids), ("is_open", "=", True)])
        paid_by = {one.job_id: ("company", one.company_id.id) for one in reserved}
        untried = jobs.sudo().filtered(lambda job: not job.attempt_count)  # sudo: as above
        wanted = [
            job._replace(subjects=job.subjects - {paid_by.get(job.id)})
            for job in self._wanted(untried, ("queued",))
        ]
        limits = {
            subject: limit
            for subject, limit in self._limits_of(wanted).items()
            if subject[0] == "company"
        }
        self._lock_patiently(limits)
        self._check_all(limits, self._spent_by_all(limits), self._needs(wanted, limits))
        touches = ["llm.generation.spending"]
        rows = self._change(sql.REBOOK, {"jobs": jobs.ids}, touches=touches)
        self._rebooked.update(row[0] for row in rows)

    @property
    def _rebooked(self):
        """The ids of what this transaction has booked anew: others still see it as it was."""
        name = "llm_generate_job_budget.rebooked"
        # Not of `precommit`: each savepoint empties that.
        return self.env.cr.postcommit.data.setdefault(name, set())

    @api.model
    def _needs(self, wanted, limits):
        """Return what jobs are going to take of each budget."""
        needs = {}
        for job in wanted:
            for subject in limits.keys() & job.subjects:
                needs[subject] = needs.get(subject, Amount()).plus(1, job.tokens)
        return needs

    @api.model
    def _settle(self, jobs):
        """Put what jobs that ended really used in the place of what was reserved."""
        if self._are_set():
            self._change(sql.SETTLE, [jobs.ids], touches=["llm.generation.spending"])

    @api.model
    def _after_late_usage(self, claim):
        """Count what an attempt really used that told it when its job had ended already."""
        result = super()._after_late_usage(claim)
        if self._are_set():
            self._change(sql.SETTLE_LATE, [claim.token], touches=["llm.generation.spending"])
        return result

    @api.model
    def _after_lost_answers(self, tokens):
        """Count what answers used that came when their jobs had ended, or ran by themselves."""
        result = super()._after_lost_answers(tokens)
        if self._are_set():
            params = {"jobs": list(tokens), "tokens": list(tokens.values())}
            self._change(sql.SPEND_LOST, params, touches=["llm.generation.spending"])
        return result

    @api.model
    def _reserve_direct(self, user, company, companies, tokens):
        """Reserve what an answer is going to cost that no job asks for.

        In a transaction of its own: it is spent whatever becomes of the caller's, and others who
        reserve do not have to wait for the answer.

        :param company: the one that pays
        :param companies: those whose budgets it has to fit
        :return: what `_settle_direct()` wants
        :raise UserError: where a budget does not allow for it
        """
        if not self._are_set():
            return False
        limits = self._limits(user, companies)
        params = {"day": self._today(), "user": user.id, "company": company.id, "tokens": tokens}
        try:
            with self._transaction() as own:
                spent = own._spent_when_free(limits)
                self._check_all(limits, spent, dict.fromkeys(limits, Amount(1, tokens)))
                touches = ["llm.generation.spending"]
                return own._change(sql.RESERVE_DIRECT, params, touches=touches)[0][0]
        except psycopg2.errors.LockNotAvailable:
            raise self._taken_just_now() from None

    @api.model
    def _taken_just_now(self):
        return UserError(
            self.env._(
                "Something else takes of this budget just now. Try again in a moment; code"
                " that has queued jobs commits first."
            )
        )

    @api.model
    def _settle_direct(self, spending_id, cost):
        """Put what an answer cost in the place of what was reserved for it.

        :param cost: see `runner.executor.CallRecorder`
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
        busy = self._lock_patiently(limits) if wait else self._lock(limits, wait=False)
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
                "sources": list(sources),
                "answer_tokens": DEFAULT_ANSWER_TOKENS,
            },
        )
        return [
            Wanted(
                job_id,
                frozenset({("user", user_id), *(("company", one) for one in companies)}),
                int(tokens),
            )
            for job_id, user_id, companies, tokens in rows
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
    def _lock_patiently(self, subjects):
        """Do the same with an end to the waiting, where the transaction has none.

        :return: an empty set
        :raise UserError: where somebody else's transaction holds a budget for longer
        """
        if not subjects:
            return set()
        try:
            with self.env.cr.savepoint(flush=False):
                self.env.cr.execute(sql.BOUND_WAIT)
                self._lock(subjects)
                self.env.cr.execute(sql.UNBOUND_WAIT)
                return set()
        except psycopg2.errors.LockNotAvailable as error:
            if self._is_set_aside(error):
                raise
            raise self._taken_just_now() from None

    @api.model
    def _spent_by_all(self, subjects):
        """Return what was spent today, by others as they committed it, and by this transaction."""
        if not subjects:
            return {}
        [(xid,)] = self._select(sql.TRANSACTION)
        total = self._spent(subjects, xid=xid, own=True)
        with self._transaction() as now:
            # What a savepoint has rolled back is as it was.
            again = self._select(sql.OF_TRANSACTION, {"ids": [*self._rebooked], "xid": xid})
            others_rows = {"xid": xid, "own": False, "without": [row[0] for row in again]}
            for subject, others in now._spent(subjects, **others_rows).items():
                total[subject] = total.get(subject, Amount()).plus(*others)
        return total
