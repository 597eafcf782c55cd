import functools
import inspect
from contextvars import ContextVar

from odoo import api, fields, models

#: Whether the code of a service runs that reads the key of its provider by itself.
READING = ContextVar("llm.provider.reading", default=False)
#: What the addons of the family bring within the reach of a remote call and is for code: it spends
#: a provider's key past the queue, runs a tool, or reads as superuser.
FOR_CODE = {
    "llm.provider": (
        *("chat", "generate", "embedding", "list_models", "process_ocr", "upload_file"),
        *("start_training_job", "check_training_job_status", "retrieve_training_job"),
        *("cancel_training_job", "validate_datasets"),
    ),
    "llm.model": ("chat", "generate", "embedding"),
    "llm.thread": (
        *("generate", "generate_messages", "message_post_from_stream"),
        *("get_llm_messages", "get_prepend_messages"),
    ),
    "llm.tool": ("execute",),
    "mail.message": (
        *("to_store_format", "post_tool_call", "execute_tool_call", "process_generation_urls"),
    ),
}
#: How the methods end by which tools do their work.
TOOL_SUFFIX = "_execute"


class LlmProvider(models.Model):
    """Keeps the key for managers and for the services, and services from remote calls.

    Whatever the `llm` that is installed says of it.
    """

    _inherit = "llm.provider"

    api_key = fields.Char(copy=False, prefetch=False, groups="llm.group_llm_manager")

    def _register_hook(self):
        super()._register_hook()
        self._let_services_read()
        self._close_to_remote_calls()

    def _has_field_access(self, field, operation):
        """Let the code of a service read the key; the user has to be able to read the provider."""
        if field.name == "api_key" and operation == "read" and READING.get():
            return True
        return super()._has_field_access(field, operation)

    def _let_services_read(self):
        """Have the methods that read `self.api_key` read it for whoever uses the provider.

        Services that know nothing of `_read_api_key()` do so, where every user may.
        """
        for cls in type(self)._base_classes__:
            for name, method in list(vars(cls).items()):
                if inspect.isfunction(method) and "api_key" in method.__code__.co_names:
                    setattr(cls, name, _reading(method))

    def _close_to_remote_calls(self):
        """Keep what is for code from remote calls, and the methods of each service and tool.

        A service's `<service>_chat()` spends the provider's key past the queue and its limits.
        """
        for model_name, names in FOR_CODE.items():
            model_class = type(self.env[model_name])
            for name in names:
                if method := getattr(model_class, name, None):
                    api.private(method)
        beginnings = tuple(f"{code}_" for code, _label in self._get_available_services())
        _close(type(self), lambda name: name.startswith(beginnings))
        _close(type(self.env["llm.tool"]), lambda name: name.endswith(TOOL_SUFFIX))


def _close(model_class, is_closed):
    for name, method in inspect.getmembers(model_class, inspect.isfunction):
        if is_closed(name):
            api.private(method)


def _reading(method):
    """Return a method during which the key may be read."""

    @functools.wraps(method)
    def read(*args, **kwargs):
        token = READING.set(True)
        try:
            return method(*args, **kwargs)
        finally:
            READING.reset(token)

    return read
