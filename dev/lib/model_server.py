"""The local model: llama.cpp's OpenAI-compatible server on SmolLM2, in a process of its own."""

import json
import os
import urllib.request

from . import commands, paths, processes
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
    name = "model"

    def __init__(self, folder, *, port=None, parallel=2):
        self.log = folder / f"{self.name}.log"
        self.port = port or processes.free_port()
        self.parallel = parallel
        self.process = None

    @property
    def endpoint(self):
        base = f"http://127.0.0.1:{self.port}/v1"
        return {"api_base": base, "api_key": "local", "model": MODEL}

    @property
    def command(self):
        return [
            paths.venv_python("model"),
            paths.DEV / "serve_model.py",
            *(str(self.port), MODEL, str(self.parallel)),
        ]

    def start(self):
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.process = processes.start(self.command, self.log)
        commands.wait_for(lambda: self.is_ready() or not self.process.is_alive(), 60)
        if not self.is_ready():
            self.process.kill()
            halt(f"the {self.name} server did not start: see {self.log}.")
        return self

    def is_ready(self):
        if not self.process.listens_on(self.port):
            return False
        try:
            url = f"http://127.0.0.1:{self.port}/v1/models"
            with urllib.request.urlopen(url, timeout=5) as answer:
                return bool(json.load(answer).get("data"))
        except (OSError, ValueError):
            return False

    def stop(self):
        if self.process:
            self.process.stop()
