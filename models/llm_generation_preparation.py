from odoo import api, models
from odoo.exceptions import AccessError
from odoo.tools import ormcache

from ..runner.brief import Brief
from ..runner.handover import received

#: Errors after which nothing runs at the provider any more.
ENDED_AT_PROVIDER = ("provider_failed", "cancelled")
#: What a provider's code reads of a job's surroundings.
READ_FIELDS = ("thread_id", "model_id", "provider_id")
#: Jobs up to which one statement reads all: for more it would repeat the same models.
FEW = 16


class LlmGenerationPreparation(models.AbstractModel):
    """Reads, for many claimed jobs in one short transaction, all that providers will want."""

    _name = "llm.generation.preparation"
    _description = "LLM Generation Preparation"
    _inherit = ["llm.generation.claim", "llm.generation.reading"]

    @api.model
    def _take(self, slots, runner_id, runner_name, queue_ids=None):
        """Claim jobs, and prepare them over the same connection.

        :return: how many were claimed, their briefs, and when to look again, as in `_claim()`
        """
        with self._transaction() as preparation:
            claims, waits = preparation._claim_here(slots, runner_id, runner_name, queue_ids)
            return len(claims), preparation._briefs(claims) if claims else [], waits

    @api.model
    def _prepare(self, claims):
        """Return the briefs of the claims whose jobs still exist."""
        with self._transaction() as preparation:
            return preparation._briefs(claims)

    def _briefs(self, claims):
        claim_of = {claim.job_id: claim for claim in claims}
        jobs = self._read_all(list(claim_of))
        earlier = self._earlier_tries(jobs)
        briefs = []
        for (user, _company), mine in jobs.grouped(lambda j: (j.user_id, j.company_id)).items():
            context = self._owner_context(mine[0])
            own = mine.with_user(user).with_context(**context)
            readable = {name: own[name]._filtered_access("read") for name in READ_FIELDS}
            values = {}
            for records in (own, *readable.values()):
                values |= self._cached_values(records)
            for job in own:
                refs = [job[name] for name in READ_FIELDS]
                refused = [ref for ref in refs if (ref._name, ref.id) not in values]
                kept = [(record._name, record.id) for record in (job, *refs)]
                briefs.append(
                    Brief(
                        claim=claim_of[job.id],
                        user_id=user.id,
                        context=context,
                        values={key: values.get(key, {}) for key in kept},
                        refusal=self._refusal(job, refused, claim_of[job.id].owner_is_active),
                        earlier_job=earlier.get(job.id, ""),
                    )
                )
        return briefs

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
        """Return the fields whose values go with a brief: what any owner of it may read."""
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
        """Return why a job may not run in its owner's name, empty where it may."""
        # sudo: a user may not read whether they were archived.
        user = job.user_id.sudo()
        if user._is_superuser():  # who counts as archived, too
            if job.sudo().thread_id.tool_ids:
                return self.env._("Tools do not run as OdooBot. Give the thread another owner.")
        elif owner_is_active is False or (owner_is_active is None and not user.active):
            return self.env._("The user %s was archived; nothing runs in their name.", user.name)
        if refused:
            what = refused[0]._description
            return job.env._("%(user)s may no longer use this %(what)s.", user=user.name, what=what)
        return ""

    @api.model
    def _recall(self, brief, watch):
        """Return the job of a brief in its owner's environment, without asking the database.

        :param Watch watch: of what the provider is asked for this job
        :raise AccessError: when its owner may not have it run
        """
        if brief.refusal:
            raise AccessError(brief.refusal)
        for (model, record_id), values in brief.values.items():
            fields_ = self.env.registry[model]._fields
            for name, value in values.items():
                fields_[name]._get_cache(self.env)[record_id] = value
        call = received(self.env, "generation_call")
        context = {
            **self.env.context,
            **brief.context,
            "generation_earlier_job": brief.earlier_job,
            "generation_watch": watch,
            "llm_on_response": call and call.on_response,
        }
        env = self.env(user=brief.user_id, context=context, su=False)
        return env["llm.generation.job"].browse(brief.claim.job_id)
