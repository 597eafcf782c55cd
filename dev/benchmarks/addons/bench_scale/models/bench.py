from odoo import api, models

PROMPT = "Describe the product in two sentences for the web shop: " + "a chair of oak, oiled. " * 6
#: Jobs of one call of `create_batch()`.
BATCH = 1000


class Bench(models.AbstractModel):
    _inherit = "bench"

    @api.model
    def scale_prepare(self, name):
        """Make a provider whose queue is shut; return its id."""
        provider = self.env["llm.provider"].create({"name": name, "service": "benchscale"})
        self.env["llm.model"].create({
            "name": f"{name} model",
            "provider_id": provider.id,
            "model_use": "chat",
            "default": True,
        })
        self._scale_queue(provider.id).action_disable()
        return provider.id

    @api.model
    def _scale_queue(self, provider_id):
        return self.env["llm.generation.queue"]._get_or_create_queue(provider_id)

    @api.model
    def scale_open(self, provider_id, limit):
        """Let the jobs of a provider start, so many at once."""
        queue = self._scale_queue(provider_id)
        queue.max_concurrent_jobs = limit
        queue.action_enable()
        return True

    @api.model
    def scale_shut(self, provider_id):
        """Let no job of a provider start."""
        return self._scale_queue(provider_id).action_disable()

    @api.model
    def scale_ask_batch(self, provider_id, count, inputs):
        """Queue jobs as a bulk does: thousands in a transaction, each in a thread of its own."""
        model = self.env["llm.provider"].browse(provider_id).model_ids
        for begin in range(0, count, BATCH):
            some = min(BATCH, count - begin)
            asked = [{"prompt": PROMPT, **inputs}] * some
            self.env["llm.generation.job"].create_batch(asked, model=model, name="Chairs")
            self.env.cr.commit()  # pylint: disable=invalid-commit
        return count

    @api.model
    def scale_ask_each(self, provider_id, count, inputs):
        """Queue jobs as a chat does: a question, a transaction; a new thread for each."""
        model = self.env["llm.provider"].browse(provider_id).model_ids
        place = {"provider_id": provider_id, "model_id": model.id}
        for number in range(count):
            thread = self.env["llm.thread"].create({"name": f"Chair {number}", **place})
            thread.enqueue_generation(PROMPT, inputs=dict(inputs))
            self.env.cr.commit()  # pylint: disable=invalid-commit
        return count

    @api.model
    def scale_start_runner(self):
        """Have a runner in this very process."""
        return self.env["llm.generation.queue"]._process_all_queues()

    @api.model
    def scale_clean_up(self):
        """Remove all jobs that have ended, as the scheduled action does when they are old."""
        return self.env["llm.generation.retention"]._clean_up(days=0)[0]
