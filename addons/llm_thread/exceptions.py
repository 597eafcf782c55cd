"""What can go wrong in a thread, besides what a provider raises."""

from odoo.exceptions import UserError


class ThreadBusyError(UserError):
    """The thread is writing an answer already: wait, then try again."""


class AnswerError(UserError):
    """The provider reported an error inside its answer, or answered nothing."""
