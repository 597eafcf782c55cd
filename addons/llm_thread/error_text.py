"""What a user is told when a generation failed."""

import requests

from odoo.exceptions import UserError


def explain(env, error):
    """Return a sentence for the user about an exception of a generation.

    Only the texts of `UserError` are passed on: those of a provider's library may hold a key.
    """
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, NotImplementedError):
        return env._("The provider of this thread cannot chat. Choose another one.")
    response = getattr(error, "response", None)
    if response is not None:
        return _explain_status(env, response.status_code)
    if isinstance(error, requests.Timeout):
        return env._("The provider did not answer in time. Try again in a moment.")
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return env._("The provider broke off its answer. Try again.")
    if isinstance(error, requests.RequestException):
        return env._(
            "The provider cannot be reached. Try again in a moment; if it stays so, ask an"
            " administrator to check its address."
        )
    return env._(
        "The answer failed for a reason that is in the server's log. Try again; if it stays so,"
        " tell an administrator."
    )


def _explain_status(env, status):
    """Return what a status means, without its number: that tells the log more than a user."""
    if status in {401, 403}:
        return env._("The provider refuses the API key. Ask an administrator to check it.")
    if status == 402:
        return env._("The provider's credit is used up. Ask an administrator.")
    if status == 404:
        return env._("The provider does not know this model or address. Choose another model.")
    if status == 429:
        return env._("The provider gets too many requests. Wait a minute and try again.")
    if status >= 500:
        return env._("The provider is in trouble. Try again in a moment.")
    return env._(
        "The provider does not accept this conversation. Try a shorter one, or another model."
    )
