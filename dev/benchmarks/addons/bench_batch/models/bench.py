import time

from odoo import api, models

from odoo.addons.bench.models.bench import PROMPT


class Bench(models.AbstractModel):
    _inherit = "bench"

    @api.model
    def questions(self, count):
        """Queue so many questions, each another one, and forget them.

        :return: seconds, commit included
        """
        provider = self._answer_provider(1)
        queue = self.env["llm.generation.queue"]._get_or_create_queue(provider)
        queue.enabled = False
        self.env.cr.commit()  # pylint: disable=invalid-commit
        prompts = [f"{PROMPT}{number}" for number in range(count)]
        begin = time.perf_counter()
        batch = self.env["llm.generation.job"].create_batch(prompts, model=provider.model_ids[:1])
        self.env.cr.commit()  # pylint: disable=invalid-commit
        seconds = time.perf_counter() - begin
        batch.job_ids.action_cancel()
        queue.enabled = True
        return seconds
