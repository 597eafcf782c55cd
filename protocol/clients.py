"""Clients of vendors' libraries, which providers make: `openai`, `anthropic`, `mistralai`."""

from types import ModuleType


def without_retries(client):
    """Return a client that tells a failure at once, where it would try again by itself.

    Those of `openai` and `anthropic` try twice more, and sleep as long as `Retry-After` says;
    that of `mistralai` does so where it was told to. No library is imported: what its clients
    have tells what they are. What is not known stays as it is, and so does a module, such as
    `fal_client`, whose settings are everybody's.

    :param client: what `<service>_get_client()` returned; that of `mistralai` is changed itself
    """
    if isinstance(client, ModuleType):
        return client
    if getattr(client, "max_retries", None) and callable(getattr(client, "with_options", None)):
        return client.with_options(max_retries=0)
    configuration = getattr(client, "sdk_configuration", None)
    if getattr(configuration, "retry_config", None):
        configuration.retry_config = None
    return client
