"""The models: llama.cpp's server on SmolLM2, and llmock, a server that is not ours with faults."""

import json
import os
import urllib.request

from . import paths, processes
from .processes import wait_for
from .say import halt

MODEL = "SmolLM2-135M-Instruct"


def endpoint_from_environment():
    """Return the endpoint that LLM_API_BASE names, None where the local model serves."""
    base = os.environ.get("LLM_API_BASE")
    if not base:
        return None
    model = os.environ.get("LLM_MODEL")
    if not model:
        halt("LLM_API_BASE is set: say with LLM_MODEL which of its models to use.")
    return {"api_base": base, "api_key": os.environ.get("LLM_API_KEY", ""), "model": model}


class ModelServer:
    """The local model, in a process of its own, with OpenAI's interface."""

    name = "model"

    def __init__(self, folder):
        self.log = folder / f"{self.name}.log"
        self.port = processes.free_port()
        self.process = None

    @property
    def endpoint(self):
        base = f"http://127.0.0.1:{self.port}/v1"
        return {"api_base": base, "api_key": "local", "model": MODEL}

    @property
    def command(self):
        python = paths.venv_python("model")
        return [python, paths.DEV / "serve_model.py", str(self.port), MODEL, "2"]

    def start(self):
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.process = processes.start(self.command, self.log)
        wait_for(lambda: self.is_ready() or not self.process.is_alive(), 60)
        if not self.is_ready():
            self.process.kill()
            halt(f"the {self.name} server did not start: see {self.log}.")
        return self

    def is_ready(self):
        if not self.process.listens_on(self.port):
            return False
        try:
            with urllib.request.urlopen(f"{self.endpoint['api_base']}/models", timeout=5) as answer:
                return bool(json.load(answer).get("data"))
        except (OSError, ValueError):
            return False


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


def serve_tests(folder):
    """Give the tests a real model at LLM_TEST_API_BASE, and a mock at LLM_TEST_MOCK_BASE."""
    endpoint = ModelServer(folder).start().endpoint
    os.environ["LLM_TEST_API_BASE"] = endpoint["api_base"]
    os.environ["LLM_TEST_MODEL"] = endpoint["model"]
    os.environ["LLM_TEST_MOCK_BASE"] = MockServer(folder).start().endpoint["api_base"]
