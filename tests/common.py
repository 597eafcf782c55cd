"""What a provider author's tests need: a provider to fake, jobs to order, a queue that runs inline.

In tests jobs run inline: `_process_queue()` runs what waits to its end, in the test's own thread
and transaction, by the same code as in a server.
"""

import gc
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from unittest import SkipTest
from unittest.mock import patch

from odoo.exceptions import UserError
from odoo.tests import TransactionCase, new_test_user, tagged

from ..protocol.answer import Answer, Claim

ADDON = "odoo.addons.llm_generate_job"
#: Its last word must be in no log: see `dev/lib/marks.py`.
PROMPT = "Hello, says a canary-prompt-test"
#: The services of the tests.
FAKES = ("fakenative", "fakedirect")
#: Seconds; a minute, which is the default, is little on a machine that has other work.
TOUR_TIMEOUT = 180


#: Why a test is skipped: `make test FAMILY=` counts these apart, and accepts them nowhere else.
OF_ANOTHER_LLM = "needs another llm: "


def user_groups(env):
    """Return the groups of somebody who may ask: some `llm` let a group of their own read them."""
    group = env.ref("llm.group_llm_user", raise_if_not_found=False)
    return "base.group_user,llm.group_llm_user" if group else "base.group_user"


def default_of(env):
    """Return the values of a model that is the default of its provider, as its `llm` names it."""
    fields = env["llm.model"]._fields
    return {name: True for name in ("default", "is_default") if name in fields}


class FakeService:
    """A provider's side of the protocol, in memory.

    `answers` is what each call gives: a value is returned, an exception raised, a function called
    with the job; the last one again and again. `chunks` are those of a chat: an exception is
    raised, a function called in its turn. `calls` counts what was asked.
    """

    def __init__(self):
        self.reset()

    def reset(self):
        self.answers = {"create": ["ext-1"], "check": [{"state": "running"}], "cancel": [True]}
        self.calls = {"create": [], "check": [], "cancel": [], "chat": []}
        self.chunks = [{"content": "Hel"}, {"content": "lo"}]
        self.usage = {"prompt_tokens": 7, "completion_tokens": 2}

    def answer(self, what, job):
        self.calls[what].append(job.id)
        answers = self.answers[what]
        value = answers.pop(0) if len(answers) > 1 else answers[0]
        if callable(value) and not isinstance(value, type):
            value = value(job)
        if isinstance(value, BaseException):
            raise value
        return value

    def chat(self, messages):
        self.calls["chat"].append(messages)
        for chunk in self.chunks:
            if isinstance(chunk, BaseException):
                raise chunk
            if callable(chunk):
                chunk()
            else:
                yield chunk
        if self.usage:
            yield {"usage": self.usage}


def posted(text, **values):
    """Return an answer for `FakeService` that posts a message and says that the job is done."""

    def answer(job):
        message = job.thread_id.message_post(body=text, llm_role="assistant", author_id=False)
        return {"state": "completed", "output_message_id": message.id, **values}

    return answer


@tagged("post_install", "-at_install")
class LlmGenerationCommon(TransactionCase):
    """A user, a manager, and two fake providers: `native` runs jobs, `direct` only chats."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.user = new_test_user(cls.env, "generation_user", user_groups(cls.env))
        cls.manager = new_test_user(cls.env, "generation_manager", "llm.group_llm_manager")
        cls._fake_services()
        cls.native, cls.native_model = cls._create_provider("Native", "fakenative")
        cls.direct, cls.direct_model = cls._create_provider("Direct", "fakedirect")
        cls.queue = cls.env["llm.generation.queue"]._get_or_create_queue(cls.native)
        cls.direct_queue = cls.env["llm.generation.queue"]._get_or_create_queue(cls.direct)

    def setUp(self):
        super().setUp()
        self.service.reset()

    @classmethod
    def _fake_services(cls):
        service = cls.service = FakeService()
        provider_class = type(cls.env["llm.provider"])

        def services(provider):
            return [*original(provider), ("fakenative", "Native"), ("fakedirect", "Direct")]

        original = provider_class._get_available_services
        methods = {
            "_get_available_services": services,
            "fakenative_create_generation_job": lambda _p, job: service.answer("create", job),
            "fakenative_check_generation_job_status": lambda _p, job: service.answer("check", job),
            "fakenative_cancel_generation_job": lambda _p, job: service.answer("cancel", job),
            "fakedirect_chat": lambda _p, messages, prepend_messages=None, **_kw: service.chat(
                messages or prepend_messages
            ),
            # The family's chat asks each service for it.
            "fakedirect_normalize_prepend_messages": lambda _p, messages: messages or [],
            **{f"{fake}_should_generate_io_schema": lambda _p, _model: False for fake in FAKES},
        }
        for name, method in methods.items():
            cls.startClassPatcher(patch.object(provider_class, name, method, create=True))

    @classmethod
    def _create_provider(cls, name, service):
        provider = cls.env["llm.provider"].create({"name": name, "service": service})
        model = cls.env["llm.model"].create({
            "name": f"{name} model",
            "provider_id": provider.id,
            "model_use": "chat",
            **default_of(cls.env),
        })
        return provider, model

    @classmethod
    def _create_thread(cls, model=None, user=None, **values):
        model = model or cls.native_model
        threads = cls.env["llm.thread"].with_user(user or cls.user)
        # Neither log note nor followers: they take longer than all the rest.
        return (
            threads
            .with_context(tracking_disable=True, mail_create_nosubscribe=True)
            .create({
                "name": "Thread",
                "provider_id": model.provider_id.id,
                "model_id": model.id,
                **values,
            })
            .with_env(threads.env)
        )

    @classmethod
    def _create_job(cls, state="draft", model=None, user=None, **values):
        """Create a job as it would be had it reached `state`."""
        user = user or cls.user
        if "thread_id" not in values:
            values["thread_id"] = cls._create_thread(model, user).id
        values.setdefault("generation_inputs", {"prompt": PROMPT})
        job = cls.env["llm.generation.job"].create({"user_id": user.id, **values})
        if state != "draft":
            job.action_queue()
        if state in {"running", "completed"}:
            cls._claim(job)
        if state == "completed":
            job.action_complete()
        elif state == "failed":
            job.action_fail("It broke.")
        elif state == "cancelled":
            job.action_cancel()
        return job

    @classmethod
    def _claim(cls, job):
        """Start a job without calling its provider, and return the claim."""
        queue = cls.env["llm.generation.queue"]._get_or_create_queue(job.provider_id)
        waiting = cls.env["llm.generation.job"].search([
            ("provider_id", "=", job.provider_id.id),
            ("state", "=", "queued"),
            ("id", "!=", job.id),
        ])
        waiting.write({"is_scheduled": True})
        claims, _wait = cls.env["llm.generation.engine"]._claim(1, queue_ids=queue.ids)
        waiting.write({"is_scheduled": False})
        return claims[0]

    @classmethod
    def _needs(cls, is_there, what):
        """Skip unless the `llm` that is installed has what a test is about.

        :param str what: the end of "It needs an llm …"
        """
        if not is_there:
            raise SkipTest(OF_ANOTHER_LLM + what)

    @classmethod
    def _tool_implementation(cls):
        """Return the code of an implementation of tools, whichever there is."""
        selection = cls.env["llm.tool"]._fields["implementation"]
        return selection._description_selection(cls.env)[0][0]

    def _needs_errors_raised(self):
        raises = not hasattr(self.env["llm.thread"], "_generate_assistant_response")
        self._needs(raises, "whose threads raise what goes wrong")

    def _needs_our_page(self):
        is_there = hasattr(self.env["llm.thread"], "get_conversation")
        self._needs(is_there, "with our conversation page")

    def _page_of_threads(self):
        """Return the address of the list of threads."""
        domain = [("res_model", "=", "llm.thread"), ("view_mode", "like", "list")]
        return f"/odoo/action-{self.env['ir.actions.act_window'].search(domain, limit=1).id}"

    @staticmethod
    def _conversation(thread):
        """Return what is shown of a thread, as dicts, whoever's `llm_thread` it is."""
        if hasattr(thread, "get_conversation"):
            return thread.get_conversation()
        messages = thread.message_ids.filtered("llm_role").sorted("id")
        return [
            {**one.to_store_format(), "body": one.body, "body_json": one.body_json}
            for one in messages
        ]

    @classmethod
    def _engine(cls):
        """Return the engine."""
        return cls.env["llm.generation.engine"]

    @contextmanager
    def _knowing_nothing(self):
        """Forget what was read, so that the statements of a call can be counted.

        An environment keeps the company and the time zone of its user until Python's collector
        comes by: before a count it always does, during one never.
        """
        self.env.flush_all()
        self.env.invalidate_all()
        gc.collect()
        gc.disable()
        try:
            yield
        finally:
            gc.enable()

    def _refusal(self, function, *args, error=UserError, **kwargs):
        """Return the sentence with which a call is refused.

        Unlike `assertRaises()`, it does not roll back what the call wrote before it refused.
        """
        try:
            function(*args, **kwargs)
        except error as refusal:
            self.env.invalidate_all()
            return str(refusal)
        self.fail(f"{error.__name__} not raised")
        return ""

    def _commit_each_chunk(self):
        """Have each chunk of an answer be an event, and each event a commit."""
        self.startPatcher(self._patched(f"{ADDON}.runner.executor.CHUNK_INTERVAL", 0))
        if find_spec("odoo.addons.llm_thread.answer_stream"):  # the family has no interval
            self.startPatcher(
                self._patched("odoo.addons.llm_thread.answer_stream.WRITE_INTERVAL", 0)
            )

    def _patched(self, target, value):
        return patch(target, value)

    @contextmanager
    def _offered(self, model="llm.provider", **methods):
        """Define methods of a model, as an addon does that brings a service."""
        with ExitStack() as stack:
            for name, method in methods.items():
                model_class = type(self.env[model])
                stack.enter_context(patch.object(model_class, name, method, create=True))
            yield

    def _claim_of(self, job, token):
        return Claim(job.id, token)

    def _answer(self, state, **values):
        return Answer(state, **values)

    def _apply(self, claim, **answer):
        """Apply a provider's answer for an attempt; return whether the attempt still counted."""
        return bool(self._engine()._apply([(claim, Answer.from_dict(answer))]))

    def _values(self, records, names=None):
        """Return what the database holds of records."""
        records.env.flush_all()
        records.invalidate_recordset()
        names = names or [name for name, field in records._fields.items() if field.store]
        return records.sudo().read(names, load=None)

    def _process_queue(self, provider=None):
        """Run what waits in a provider's queue to its end, and return how many were started."""
        return self.env["llm.generation.queue"]._process_provider_queue(provider or self.native)

    @contextmanager
    def _protocol(self, **methods):
        """Override methods of `llm.provider` itself, as a provider's `_inherit` class does.

        Each gets the method that it overrides, the provider and the job.
        """
        provider_class = type(self.env["llm.provider"])

        def override(name, method):
            inherited = getattr(provider_class, name)

            def overridden(provider, *args):
                return method(inherited, provider, *args)

            return overridden

        overrides = {name: override(name, method) for name, method in methods.items()}
        with patch.multiple(provider_class, **overrides):
            yield
