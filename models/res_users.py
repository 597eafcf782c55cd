from odoo import fields, models

from ..const import BUS_QUEUE_CHANNEL


class ResUsers(models.Model):
    """Lets users choose whether the web client tells them that an answer is ready."""

    _inherit = "res.users"

    llm_generation_notify = fields.Boolean(
        "Tell Me When Answers Are Ready",
        default=True,
        help="A message appears when an answer that you asked for is ready, or has failed, while"
        " you are on another page.",
    )

    @property
    def SELF_READABLE_FIELDS(self):
        return [*super().SELF_READABLE_FIELDS, "llm_generation_notify"]

    @property
    def SELF_WRITEABLE_FIELDS(self):
        return [*super().SELF_WRITEABLE_FIELDS, "llm_generation_notify"]


class IrHttp(models.AbstractModel):
    """Tells the web client what its user prefers."""

    _inherit = "ir.http"

    def session_info(self):
        info = super().session_info()
        if self.env.user._is_internal():
            info["llm_generation_notify"] = self.env.user.llm_generation_notify
        return info


class IrWebsocket(models.AbstractModel):
    """Lets managers hear of the queues of their companies, and of no other ones."""

    _inherit = "ir.websocket"

    def _build_bus_channel_list(self, channels):
        channels = super()._build_bus_channel_list(channels)
        if self.env.user.has_group("llm.group_llm_manager"):
            channels.extend((company, BUS_QUEUE_CHANNEL) for company in self.env.user.company_ids)
        return channels
