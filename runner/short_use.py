"""The engine's models for code that runs outside of any request."""

import logging
import time

import psycopg2

from odoo import SUPERUSER_ID, api
from odoo.modules.registry import Registry

from . import limits
from .lazy_cursor import LazyCursor

_logger = logging.getLogger(__name__)


def is_uninstalled(dbname):
    """Return whether this process has heard that the module is no longer there."""
    return "llm.generation.engine" not in Registry(dbname)


class Models:
    """Gives models of a database that hold no connection between their statements."""

    def __init__(self, dbname, **context):
        """Take a database's name, and the context that all its models get."""
        self.dbname = dbname
        self._context = context
        self._registry = None
        self._checked_at = 0.0

    @property
    def are_installed(self):
        """Whether the engine is there, as far as is known by now."""
        return self._registry is None or "llm.generation.engine" in self._registry

    def get(self, name, **context):
        """Return a model for short use."""
        now = time.monotonic()
        if self._registry is None or now > self._checked_at + limits.REGISTRY_CHECK:
            # Another process may have installed a module.
            self._checked_at = now
            try:
                self._registry = Registry(self.dbname).check_signaling()
            except psycopg2.Error:
                if self._registry is None:
                    raise
                # What must wait for the database waits where its answer is not lost meanwhile.
                _logger.info("Database %s cannot be asked for new modules now", self.dbname)
        context = {**self._context, **context}
        return api.Environment(LazyCursor(self._registry), SUPERUSER_ID, context)[name]
