from odoo import api, models

from odoo.addons.bench.models.bench import work


class Bench(models.AbstractModel):
    _inherit = "bench"

    @api.model
    def _queue(self, lane, keys, seconds):
        for key in keys:
            self.with_delay(channel=f"root.{lane}")._work(key, seconds)

    @api.model
    def _work(self, key, seconds):
        work(key, seconds)
