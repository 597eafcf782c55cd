"""A server of OpenAI's interface that is not ours, with faults to order: llmock."""

from . import paths
from .model_server import ModelServer


class MockServer(ModelServer):
    name = "mock"

    @property
    def command(self):
        return [
            *(paths.venv_python("mock"), "-m", "uvicorn", "--factory", "llmock.main:create_app"),
            *("--host", "127.0.0.1", "--port", str(self.port), "--log-level", "warning"),
            # Some of the faults that it is asked for hold a call for long.
            *("--timeout-graceful-shutdown", "1"),
        ]
