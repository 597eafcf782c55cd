import functools
import logging

from odoo import api, models

from ..const import BUS_JOB_UPDATE, BUS_QUEUE_CHANNEL, BUS_QUEUE_UPDATE, JOB_CHANNEL
from ..runner import handover, pool
from ..runner.http_errors import traceback_of

_logger = logging.getLogger(__name__)

#: Jobs of one user that one message on the bus tells about at most.
ANNOUNCED = 50


class LlmGenerationNews(models.AbstractModel):
    """Tells whom it concerns what became of jobs: who waits, who looks, and other addons."""

    _name = "llm.generation.news"
    _description = "LLM Generation News"

    @api.model
    def _notify(self, jobs):
        """Tell those who wait for jobs, at commit, that something happened to them."""
        self.env.cr.execute(
            "SELECT pg_notify(%s, id::text) FROM unnest(%s) AS id", [JOB_CHANNEL, jobs.ids]
        )
        # Telling the web clients opens a connection: the runner, where there is one, does it.
        outbox = handover.received(self.env, "generation_outbox", pool.outbox(self.env.cr.dbname))
        if outbox is None:
            self._announce(jobs)
        else:
            self.env.cr.postcommit.add(functools.partial(self._hand_over, outbox, jobs.ids))

    @api.model
    def _hand_over(self, outbox, job_ids):
        """Have a runner tell the web clients; one that has ended meanwhile does not any more."""
        if not outbox.add(job_ids):
            self.env["llm.generation.upkeep"]._send_news(job_ids)

    @api.model
    def _announce(self, jobs):
        """Send the owners of jobs, and the managers, their news over the bus."""
        for user, mine in jobs.sudo().grouped("user_id").items():  # sudo: each hears of their own
            payload = [job._bus_payload() for job in mine[:ANNOUNCED]]
            user._bus_send(BUS_JOB_UPDATE, payload)
        self._announce_queues(jobs.provider_id)

    @api.model
    def _announce_queues(self, providers):
        """Tell the managers that the queues of providers changed: each those of own companies."""
        # sudo: a channel of the bus, which only members of the group hear.
        managers = self.env.ref("llm.group_llm_manager").sudo()
        # sudo: whose provider it is decides who hears of it.
        for company, mine in providers.sudo().grouped("company_id").items():
            news = {"provider_ids": mine.ids}
            if company:
                channel = (company, BUS_QUEUE_CHANNEL)
                self.env["bus.bus"]._sendone(channel, BUS_QUEUE_UPDATE, news)
            else:
                managers._bus_send(BUS_QUEUE_UPDATE, news)

    @api.model
    def _call_hooks(self, jobs):
        """Tell other addons, and the threads of jobs, that these have ended for good."""
        if jobs:
            jobs._after_end()
        if self.env["llm.thread"]._has_done_hook():
            for job in jobs:
                self._call_hook(job)

    @api.model
    def _owner_context(self, job):
        user = job.user_id
        own = user.with_user(user).context_get()
        of_job = job.company_id.id in user._get_company_ids()
        companies = (job if of_job else user).company_id.ids
        return {"lang": own["lang"], "tz": own["tz"], "allowed_company_ids": companies}

    @api.model
    def _call_hook(self, job):
        thread = job.thread_id.with_user(job.user_id).with_context(
            tracking_disable=False, **self._owner_context(job)
        )
        try:
            with self.env.cr.savepoint():
                thread._on_generation_job_done(job.with_env(thread.env))
        except Exception as error:  # noqa: BLE001 whatever it is
            # The answer is paid for: another addon's bug must not undo it.
            told = traceback_of(error)
            _logger.error(  # noqa: TRY400 it is scrubbed
                "The hook of thread %s failed on job %s\n%s", thread.id, job.id, told
            )
