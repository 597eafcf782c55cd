import time

from odoo import api, models

from odoo.addons.bench.models.bench import PROMPT


class Bench(models.AbstractModel):
    _inherit = "bench"

    @api.model
    def questions(self, count, post=True):
        """Queue so many questions, each another one, and forget them.

        :param bool post: whether each gets a conversation for its messages
        :return: seconds, commit included
        """
        provider = self._answer_provider(1)
        queue = self.env["llm.generation.queue"]._get_or_create_queue(provider)
        queue.enabled = False
        self.env.cr.commit()  # pylint: disable=invalid-commit
        prompts = [f"{PROMPT}{number}" for number in range(count)]
        begin = time.perf_counter()
        model = provider.model_ids[:1]
        batch = self.env["llm.generation.job"].create_batch(prompts, model=model, post=post)
        self.env.cr.commit()  # pylint: disable=invalid-commit
        seconds = time.perf_counter() - begin
        batch.job_ids.action_cancel()
        queue.enabled = True
        return seconds

    @api.model
    def _answers_kept(self, threads):
        prompts = [self._prompt(thread) for thread in threads]
        batch = self.env["llm.generation.job"].create_batch(
            prompts, model=threads.model_id, post=False
        )
        self._await_states(batch.job_ids, {"queued", "running"}, "completed")
