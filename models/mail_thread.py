from odoo import api, models
from odoo.exceptions import AccessError, UserError


class MailThread(models.AbstractModel):
    """What Odoo's mail gateway may do, which runs as superuser and which anybody can call."""

    _inherit = "mail.thread"

    def _get_message_create_valid_field_names(self):
        return super()._get_message_create_valid_field_names() | {"llm_source"}

    @api.model
    def _message_route_process(self, message, message_dict, routes):
        """Take values of what a mail creates from the gateway only.

        `message_process()` is within the reach of an RPC, and creates in the name of whoever is
        said to be the sender, as superuser.

        :raise AccessError: for values of somebody else
        """
        given = any(values and not alias for _model, _id, values, _uid, alias in routes or ())
        if given and not self.env.su and not self.env.user.has_group("base.group_system"):
            raise AccessError(
                self.env._(
                    "Only an administrator chooses the values of what an incoming mail creates."
                )
            )
        return super()._message_route_process(message, message_dict, routes)

    @api.model
    def _refuse_mail(self):
        raise UserError(
            self.env._(
                "Conversations with a model and queues take no mail. Write in the conversation"
                " itself."
            )
        )
