from odoo import fields, models


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
