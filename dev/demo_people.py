"""Who acts in the demo: an administrator who sets up a provider, and a user who asks."""

import contextlib

from demo_client import Client, RpcError
from demo_view import say_refused, title
from lib.say import halt, say
from lib.stack import LOGIN, PASSWORD

LIMIT = 2
PROVIDER = "Local model"
USER = "demo"
#: Longest wait before the first retry: three seconds, so that nobody has to wait for it.
RETRY_DELAY_MINUTES = 0.05
#: What the model accepts, as a JSON Schema.
INPUT_SCHEMA = {
    "type": "object",
    "properties": {"prompt": {"type": "string", "minLength": 1, "maxLength": 500}},
    "required": ["prompt"],
}
#: The model's server answers the first call that has this in it with an error.
FAILING = "What is a lighthouse?"
STREAMED = "Write two sentences about a cat who waits in a queue."
CANCELLED = "Write a very long story about a dragon who learns to cook, in ten chapters."
QUESTIONS = (
    "What is the capital of France?",
    FAILING + " One sentence, please.",
    CANCELLED,
    STREAMED,
    "Name the four seasons of the year.",
    "What do bees make? One sentence, please.",
    "Say good morning in French.",
    "Give me one reason to learn to swim. One sentence, please.",
)


class Administrator:
    def __init__(self, stack):
        self.stack = stack
        self.client = Client(stack.url, stack.database, LOGIN, PASSWORD)
        self.call = self.client.call
        self.provider_id = self.model_id = self.queue_id = None

    @contextlib.contextmanager
    def provider_at(self, api_base):
        """Have a provider whose calls go to an address; afterwards they go to the model itself."""
        title("The administrator sets up a provider")
        endpoint = self.stack.endpoint
        values = {"api_base": api_base, "api_key": endpoint["api_key"] or "none"}
        self.provider_id = self._ensure(
            "llm.provider", {"name": PROVIDER}, {"service": "openai", **values}
        )
        self.model_id = self._ensure(
            "llm.model",
            {"provider_id": self.provider_id, "name": endpoint["model"], "model_use": "chat"},
            {"default": True, "details": {"input_schema": INPUT_SCHEMA}},
        )
        self._set_up_queue()
        say(f"{PROVIDER}: {endpoint['model']} at {endpoint['api_base']}")
        say(f"Its queue runs {LIMIT} jobs at once and tries failed ones again within 3 seconds.")
        try:
            yield
        finally:
            values = {"api_base": endpoint["api_base"]}
            self.call("llm.provider", "write", [self.provider_id], values)

    def _set_up_queue(self):
        queues = self.call("llm.generation.queue", "search", self._of_provider)
        self.queue_id = queues[0]
        self.call(
            "llm.generation.queue",
            "write",
            queues,
            {
                "max_concurrent_jobs": LIMIT,
                "retry_delay_minutes": RETRY_DELAY_MINUTES,
                "auto_retry_failed": True,
            },
        )
        self.call("llm.generation.queue", "action_enable", queues)

    @property
    def _of_provider(self):
        return [["provider_id", "=", self.provider_id]]

    def _ensure(self, model, key, values):
        """Have a record with these keys and values; return its id."""
        found = self.call(model, "search", [[*pair] for pair in _equal(key)], limit=1)
        if found:
            self.call(model, "write", found, values)
            return found[0]
        return self.call(model, "create", [{**key, **values}])[0]

    def ensure_user(self, login, name):
        return self._ensure("res.users", {"login": login}, {"name": name, "password": login})

    def clear(self, user_id):
        """Remove what an earlier demo left: its threads, and their jobs with them."""
        own = [["user_id", "=", user_id]]
        live = [*own, ["state", "in", ["draft", "queued", "running"]]]
        jobs = self.call("llm.generation.job", "search", live)
        if jobs:
            self.call("llm.generation.job", "action_cancel", jobs)
        threads = self.call("llm.thread", "search", [*own, ["name", "in", list(QUESTIONS)]])
        if threads:
            self.call("llm.thread", "unlink", threads)

    def figures(self):
        return self.call("llm.generation.queue", "get_queue_stats", [self.queue_id])

    def check_account(self):
        """Give up at once when the provider refuses the account: its queue would wait for long."""
        fields = ["refused_by", "health_reason"]
        (queue,) = self.call("llm.generation.queue", "read", [self.queue_id], fields)
        if queue["refused_by"]:
            halt(f"{queue['health_reason']} Check LLM_API_BASE, LLM_API_KEY and LLM_MODEL.")


class User:
    """Somebody without any rights but those of an employee."""

    def __init__(self, stack, admin):
        self.admin = admin
        user_id = admin.ensure_user(USER, "Demo User")
        admin.clear(user_id)
        self.client = Client(stack.url, stack.database, USER, USER)
        self.call = self.client.call
        self.threads = {}

    def open_threads(self):
        values = [
            {
                "name": question,
                "provider_id": self.admin.provider_id,
                "model_id": self.admin.model_id,
            }
            for question in QUESTIONS
        ]
        threads = self.call("llm.thread", "create", values)
        self.threads = dict(zip(QUESTIONS, threads, strict=True))

    def try_bad_input(self):
        """Ask for what the model does not accept; return the draft that stays one."""
        title("A user asks")
        (job,) = self._create_jobs([QUESTIONS[0]], prompt=42)
        try:
            self.call("llm.generation.job", "action_queue", [job])
        except RpcError as refusal:
            say_refused("A request with a number for a prompt is refused:", str(refusal))
            return job
        return halt("a request with a bad input was queued.")

    def queue(self, questions):
        """Create the jobs of questions and queue them in one go; return their ids."""
        jobs = self._create_jobs(questions)
        self.call("llm.generation.job", "action_queue", jobs)
        return jobs

    def _create_jobs(self, questions, **inputs):
        values = [
            {
                "thread_id": self.threads[question],
                "generation_inputs": {"prompt": question, **inputs},
            }
            for question in questions
        ]
        return self.call("llm.generation.job", "create", values)

    def stream(self, question):
        """Ask as the web page does, and yield the events of the answer."""
        return self.client.events(
            "/llm_generate_job/generate",
            thread_id=self.threads[question],
            message=question,
            use_queue="1",
        )


def _equal(values):
    return ((name, "=", value) for name, value in values.items())
