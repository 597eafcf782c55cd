from collections import namedtuple
from datetime import datetime, time, timedelta

from odoo import api, fields, models, tools
from odoo.exceptions import UserError

from ..runner.statements import budget as sql

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


class LlmGenerationBudget(models.AbstractModel):
    """What users and companies may spend in a day, which is one of UTC, and what they spent.

    Without any budget there is no statement at all.
    """

    _name = "llm.generation.budget"
    _description = "LLM Generation Budget"
    _inherit = ["llm.generation.engine"]

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
    def _today(self):
        return fields.Datetime.now().date()

    @api.model
    def _tomorrow(self):
        """Return the moment from which the budgets are free again."""
        return datetime.combine(self._today() + timedelta(days=1), time.min)

    @api.model
    def _spent(self, subjects, **transaction):
        """Return what was spent today by each of the subjects.

        :param transaction: `xid` and `own`, to count what this transaction spent, or all others
        """
        params = {
            "day": self._today(),
            "users": [record_id for kind, record_id in subjects if kind == "user"],
            "companies": [record_id for kind, record_id in subjects if kind == "company"],
            "xid": "",
            "own": False,
            **transaction,
        }
        rows = self._select(sql.SPENT, params)
        return {
            (kind, record_id): Amount(int(jobs), int(tokens))
            for kind, record_id, jobs, tokens in rows
        }

    @api.model
    def _left(self, user, company):
        """Return the jobs and tokens that are left today, None for what has no limit."""
        limits = self._limits(user, company)
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
    def _left_sentence(self, user, company):
        """Return what is left today as one sentence, an empty text where nothing is limited."""
        jobs, tokens = self._left(user, company)
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
        managers = (
            self.env
            .ref("llm.group_llm_manager")
            .sudo()
            .all_user_ids.filtered(
                lambda user: user.active and user.company_ids & self.env.user.company_ids
            )
        )
        names = [user.name for user in managers if not user._is_superuser()]
        return ", ".join(names[:NAMED]) or self.env._("an administrator")
