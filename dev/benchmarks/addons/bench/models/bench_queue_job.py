import time

from odoo import api, models

from .bench import PROMPT, work

#: The channel of real answers.
CHANNEL = "root.fifty"
#: Seconds until what is queued and forgotten would begin.
FAR = 3600


class BenchQueueJob(models.AbstractModel):
    _name = "bench.queue_job"
    _inherit = "bench"
    _description = "Benchmark of queue_job"

    @api.model
    def _queue(self, lane, keys, seconds):
        for key in keys:
            self.with_delay(channel=f"root.{lane}")._work(key, seconds)

    @api.model
    def _work(self, key, seconds):
        work(key, seconds)

    @api.model
    def questions(self, count):
        """Queue so many questions, each another one, and forget them.

        :return: seconds, commit included
        """
        begin = time.perf_counter()
        for number in range(count):
            self.with_delay(channel=CHANNEL, eta=FAR)._work(f"{PROMPT}{number}", 0.0)
        self.env.cr.commit()  # pylint: disable=invalid-commit
        seconds = time.perf_counter() - begin
        # sudo: nobody may, and they were for this only.
        self.env["queue.job"].search([("state", "=", "pending")]).sudo().unlink()
        return seconds

    # === REAL ANSWERS === #

    @api.model
    def _answers_posted(self, threads):
        """Post question and answer, as our queue does."""
        self._delay_each("_post_answer", threads)

    @api.model
    def _answers_written(self, threads):
        """Write the answer to a field."""
        self._delay_each("_write_answer", threads)

    @api.model
    def _delay_each(self, method, threads):
        uuids = [
            getattr(self.with_delay(channel=CHANNEL), method)(thread.id).uuid for thread in threads
        ]
        jobs = self.env["queue.job"].search([("uuid", "in", uuids)])
        self._await_states(jobs, {"pending", "enqueued", "started"}, "done")

    @api.model
    def _post_answer(self, thread_id):
        thread = self.env["llm.thread"].browse(thread_id)
        thread.message_post(body=self._prompt(thread), llm_role="user")
        thread.message_post(body=self._ask(thread), llm_role="assistant")

    @api.model
    def _write_answer(self, thread_id):
        thread = self.env["llm.thread"].browse(thread_id)
        thread.name = self._ask(thread)
