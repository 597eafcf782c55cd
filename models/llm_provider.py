import contextlib
import functools
import inspect
from contextvars import ContextVar
from types import ModuleType

from odoo import api, fields, models

from ..const import READY
from ..exceptions import BadRequestError, NoJobInterfaceError
from ..protocol import tokens
from ..protocol.bounded_http import Connection
from ..protocol.markdown import put_texts
from ..protocol.sanitize import redact_error, sanitize_answer
from ..protocol.signatures import verify_standard
from ..runner.executor import CallRecorder, received
from ..runner.limits import HEARTBEAT

#: Calls of a service for one answer: a model that calls tools is asked again after each turn, and
#: not each family counts them.
MOST_CALLS = 100
#: Inputs of a chat job that shape its answer, and neither name objects of the account nor have the
#: service do more. A service that has them as arguments of its chat is given them.
CHAT_INPUTS = frozenset({
    *("frequency_penalty", "logit_bias", "min_p", "presence_penalty", "reasoning_effort"),
    *("repetition_penalty", "response_format", "seed", "stop", "temperature", "top_k", "top_p"),
    "verbosity",
})
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
#: Under which the keys that a transaction read are noted on its cursor.
KEYS = "llm.provider.api_key"


@functools.lru_cache(maxsize=64)  # thousands of jobs ask in one call
def _parameters(function):
    return frozenset(inspect.signature(function).parameters)


class LlmProvider(models.Model):
    """The protocol that a provider's author implements.

    Either override these methods in a class that inherits `llm.provider`, calling `super()` for
    other services, or define `<service>_create_generation_job()` and so on, which these find.
    A provider that does neither is served by direct generation in the background.

    Each method gets a job in the environment of the job's owner, on a cursor that holds no
    connection while the provider is waited for; what the method writes is committed together
    with its answer, or not at all if the job was cancelled meanwhile. Errors are told by the
    classes of `exceptions.py`; those of `requests` are understood as they are.

    A provider that sends webhooks is given `job_record._webhook_url()` with the job. A webhook
    only makes the job be asked about earlier: one that is lost or doubled changes nothing.
    """

    _inherit = "llm.provider"

    api_key = fields.Char("API Key", copy=False, prefetch=False, groups="llm.group_llm_manager")

    @api.model_create_multi
    def create(self, vals_list):
        providers = super().create(vals_list)
        # sudo: whoever may make a provider gets its queue with it.
        queues = self.env["llm.generation.queue"].sudo()
        queues.create([{"provider_id": provider.id} for provider in providers])
        return providers

    def write(self, vals):
        result = super().write(vals)
        if vals.get("active"):
            self.env["llm.generation.engine"]._wake()
        return result

    def unlink(self):
        # The database deletes the queues with their providers, and nothing that is about them.
        # sudo: who may delete the provider may delete that.
        queues = self.env["llm.generation.queue"].sudo().search([("provider_id", "in", self.ids)])
        about = [("res_model", "=", queues._name), ("res_id", "in", queues.ids)]
        said = [("model", "=", queues._name), ("res_id", "in", queues.ids)]
        left = [
            queues.env[model].with_context(active_test=False).search(domain)
            for model, domain in (
                ("mail.activity", about), ("mail.followers", about), ("mail.message", said),
            )
        ]  # fmt: skip
        result = super().unlink()
        for records in left:
            records.unlink()
        return result

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

    @property
    def client(self):
        """The client of the service's library; while a job or a test asks, one without retries.

        The queue tries again, when it may, and its slot is free meanwhile; a test tells what it
        met. A direct answer has no slot, and nobody else who tries again. Here and not in
        `_dispatch()`, which some services override without calling `super()`.
        """
        client = super().client
        recorder = received(self.env, "generation_recorder")
        is_tested = received(self.env, "generation_execution")
        if is_tested or (recorder and not recorder.is_direct):
            client = for_one_try(client, self._answer_seconds())
        # Of a direct answer, too: the request that waits for it has a limit.
        if on_response := received(self.env, "llm_on_response"):
            hear_connections(client, on_response)
        return client

    def _answer_seconds(self):
        """Return how long a call of the job, or the test, may be silent, None for no limit.

        A model that thinks says nothing meanwhile, for as long as the job may take; and a little
        longer, as it is the engine that ends what takes too long, and says so. Services take it in
        the place of a limit of their own that nobody has set.
        """
        inherited = getattr(super(), "_answer_seconds", None)
        if test := received(self.env, "generation_execution"):
            return test.claim.timeout
        execution = getattr(received(self.env, "generation_recorder"), "execution", None)
        if execution and execution.claim.timeout:
            return execution.claim.timeout + 2 * HEARTBEAT
        return inherited and inherited()

    @api.private
    def chat(self, messages, *args, **kwargs):
        recorder = received(self.env, "generation_recorder")
        if recorder and getattr(messages, "_name", None) == "mail.message":
            # The family gives a model whatever is newest in the thread, later questions too.
            messages = messages._as_asked(recorder.questions.get(messages[:1].res_id))
        if recorder:
            kwargs = {**kwargs, **recorder.inputs}
        if recorder and recorder.limit:
            kwargs = tokens.limited(kwargs, *recorder.limit)
        return self._watched(super().chat, messages, *args, **kwargs)

    @api.private
    def generate(self, *args, **kwargs):
        answer = self._watched(super().generate, *args, **kwargs)
        recorder = received(self.env, "generation_recorder")
        if recorder and recorder.store and isinstance(answer, tuple):
            output, files = answer
            return output, [known for file in files or () if (known := recorder.store(file))]
        return answer

    @api.private
    def format_messages(self, messages, *args, **kwargs):
        """Return messages as the service wants them, their texts as they were written."""
        if getattr(messages, "_name", None) != "mail.message":
            return super().format_messages(messages, *args, **kwargs)
        with messages._with_places() as (mark, texts):
            formatted = super().format_messages(messages, *args, **kwargs)
        return put_texts(formatted, mark, texts)

    def _watched(self, method, *args, **kwargs):
        """Call a method of a service, for a job, for a direct answer, or as one of its own."""
        method = functools.partial(self._guarded, method)
        if recorder := received(self.env, "generation_recorder"):
            return recorder.ask(method, *args, **kwargs)
        with contextlib.ExitStack() as stack:
            answered = self._direct_answer(estimate=tokens.estimate(args, kwargs))
            answer = stack.enter_context(answered).ask(method, *args, **kwargs)
            if hasattr(answer, "__next__"):
                return self._chunks_within(stack.pop_all(), answer)
            return answer

    @staticmethod
    def _chunks_within(stack, chunks):
        with stack, contextlib.closing(chunks):
            yield from chunks

    @contextlib.contextmanager
    def _direct_answer(self, thread=None, estimate=0):
        """Surround an answer that no job asks for: a hook for what has to be known of each.

        It surrounds `thread.generate()` with all calls that this makes, and each `chat()` and
        `generate()` that is called outside of one; what a job asks for goes past it. An addon
        that overrides it enters `super()` first, raises `UserError` before it yields to refuse
        the answer, and finds in the `cost` of what it yields what was used in the end.

        :param thread: the thread that answers, where there is one
        :param int estimate: the tokens that the answer is expected to take
        :return: a context manager that yields a `runner.executor.CallRecorder`
        """
        yield CallRecorder(is_direct=True)

    def _limit_parameter(self, name):
        """Return the argument by which the service's chat is told the most tokens of an answer.

        A service says that it can be told by a parameter of its `<service>_chat()` that is named
        like one of `protocol.tokens.LIMIT_NAMES`.

        :param str name: the one to take where there are several
        :return: None for a service that cannot be told
        """
        known = self._chat_parameters()
        return next((one for one in (name, *tokens.LIMIT_NAMES) if one in known), None)

    def _chat_inputs(self):
        """Return the names of the inputs that a chat job may have besides its prompt and its limit.

        A service says so by `<service>_chat_inputs()`, and gets them as arguments of its
        `<service>_chat()`; one that does not, by the parameters of that, see `CHAT_INPUTS`.

        :rtype: set
        """
        if hasattr(self, f"{self.service}_chat_inputs"):
            return set(self._dispatch("chat_inputs"))
        return CHAT_INPUTS & self._chat_parameters()

    def _chat_parameters(self):
        """Return the names of the parameters of the service's chat; none where it has no chat."""
        chat = getattr(type(self), f"{self.service}_chat", None)
        return _parameters(chat) if chat else frozenset()

    def _answers_without_messages(self):
        """Return whether the service is told all that is asked by something else than messages.

        It runs jobs, or its chat takes `prepend_messages`; some read the last message only, or have
        a conversation of their own for each thread.
        """
        names = self._chat_parameters()
        takes = not names or "prepend_messages" in names
        return takes or self._implements("create_generation_job")

    def _guarded(self, method, *args, **kwargs):
        """Call a method of a service; what it says, and raises, is made fit to be kept.

        :raise BadRequestError: for one call too many of an answer
        """
        recorder = received(self.env, "generation_recorder")
        if recorder and recorder.asked > MOST_CALLS:
            raise BadRequestError(
                self.env._(
                    "The model called tools %s times in a row without an end. Ask for less at once,"
                    " or give it fewer tools.",
                    MOST_CALLS,
                )
            )
        try:
            answer = method(*args, **kwargs)
        except Exception as error:
            redact_error(error, self._told_key())
            raise
        return sanitize_answer(answer, self._told_key)

    def _read_api_key(self):
        """Return the key for a call of the service, see `read_secret()`; not each `llm` has it."""
        inherited = getattr(super(), "_read_api_key", None)
        key = inherited() if inherited else read_secret(self, "api_key")
        self.env.cr.cache.setdefault(KEYS, {})[self.id] = key
        return key

    def _told_key(self):
        """Return the API key where it was read in this transaction, without a statement.

        A service that did not read it cannot have told it. One that knows nothing of
        `_read_api_key()` reads the field itself.
        """
        noted = self.env.cr.cache.get(KEYS, {}).get(self.id)
        return noted or self._fields["api_key"]._get_cache(self.env).get(self.id) or ""

    @api.private
    def create_generation_job(self, job_record):
        """Submit a job to the provider.

        :param job_record: a record of `llm.generation.job`
        :return: the provider's id of the job; or the dict that `check_generation_job_status()`
            returns, with `external_job_id` unless the work is done already
        :raise GenerationError: a subclass that tells what went wrong
        :raise NoJobInterfaceError: for a provider that runs no jobs of its own
        """
        self.ensure_one()
        if not hasattr(self, f"{self.service}_create_generation_job"):
            raise NoJobInterfaceError(self.service)
        return self._dispatch("create_generation_job", job_record)

    @api.private
    def check_generation_job_status(self, job_record):
        """Ask the provider about a job that it runs; post its answer once it has ended.

        :return: a dict with `state`, one of queued, running, completed, failed and cancelled;
            and, as far as known, `output_message_id`, `error_message`, `error_type` (a key of
            `const.ERROR_TYPES`), `retry_after` (s), `provider_data` (dict), `progress` (0-100),
            `usage` (`{"prompt_tokens", "completion_tokens"}`), `poll_after` (s until the next
            question), `expires_in` (s for which the provider keeps the result), `finish_reason`
            (how the answer ended, in the service's word or a key of `const.FINISH_REASONS`) and
            `output` (the answer of a job that does not `post`; a message that is posted all the
            same is removed for it)
        """
        self.ensure_one()
        if not hasattr(self, f"{self.service}_check_generation_job_status"):
            raise NoJobInterfaceError(self.service)
        return self._dispatch("check_generation_job_status", job_record)

    @api.private
    def cancel_generation_job(self, job_record):
        """Tell the provider that a job was given up.

        :return: whether the provider stops it
        """
        self.ensure_one()
        if not hasattr(self, f"{self.service}_cancel_generation_job"):
            return False
        return bool(self._dispatch("cancel_generation_job", job_record))

    def _verify_generation_webhook(self, job_record, headers, body):
        """Return what a webhook is about, once it is proven to come from the provider.

        By default it has to follow the Standard Webhooks specification, signed with the queue's
        Webhook Secret. A service with another way defines `<service>_verify_generation_webhook`;
        `protocol/signatures.py` helps.

        :param dict headers: by lower-case name
        :param bytes body: as it was received
        :rtype: odoo.addons.llm_generate_job.protocol.signatures.Delivery
        :raise WebhookRefusedError: unless it is genuine and fresh
        """
        self.ensure_one()
        if hasattr(self, f"{self.service}_verify_generation_webhook"):
            return self._dispatch("verify_generation_webhook", job_record, headers, body)
        queue = self.env["llm.generation.queue"]._get_or_create_queue(self)
        return verify_standard(headers, body, read_secret(queue, "webhook_secret"))

    def get_generation_queue_info(self):
        """Return what the provider offers, and how busy its queue is.

        :return: dict with `max_concurrent_jobs`, `current_queue_size`, `estimated_wait_time`
            (s), `supports_streaming`, `supports_cancellation` and `supports_jobs`
        """
        self.ensure_one()
        if hasattr(self, f"{self.service}_get_generation_queue_info"):
            return self._dispatch("get_generation_queue_info")
        # sudo: figures over all users' jobs, and no job of them.
        queue = self.env["llm.generation.queue"]._get_or_create_queue(self).sudo()
        figures = self.env["llm.generation.engine"]._statistics(queue)[queue.id]
        waiting, limit = figures[READY.name], queue.max_concurrent_jobs
        rounds = -(-waiting // limit)
        supports_jobs = self._implements("create_generation_job")
        return {
            "max_concurrent_jobs": limit,
            "current_queue_size": waiting,
            "estimated_wait_time": rounds * figures["avg_processing_time"],
            "supports_streaming": not supports_jobs,
            "supports_cancellation": not supports_jobs or self._implements("cancel_generation_job"),
            "supports_jobs": supports_jobs,
        }

    @api.model
    def _implements(self, method):
        """Return whether somebody implements a method of the protocol for this provider."""
        if self and hasattr(self, f"{self.service}_{method}"):
            return True
        for cls in type(self).mro():
            if method in cls.__dict__:
                return cls.__module__ != LlmProvider.__module__
        return False


def read_secret(record, name):
    """Return a stored text field of a record, and leave nothing in a cache.

    A field that is read as superuser stays in the record's cache, and others with it: whatever
    code reads them later in the same transaction is given them, and no record rule is asked.

    :rtype: str
    :raise AccessError: when the user of the record may not read the record
    """
    record.ensure_one()
    record.check_access("read")
    # sudo: the field is closed to who may use it; that they may read the record was checked.
    records = record.sudo().with_context(active_test=False)
    rows = records._read_group([("id", "=", record.id)], [name])
    return (rows and rows[0][0]) or ""


def for_one_try(client, seconds):
    """Return a client that tells a failure at once, and waits so long for an answer.

    Those of `openai` and `anthropic` try twice more, sleep as long as `Retry-After` says, and wait
    ten minutes between two bytes; that of `mistralai` tries again where it was told to. No library
    is imported: what its clients have tells what they are. What is not known stays as it is, and so
    does a module, such as `fal_client`, whose settings are everybody's.

    :param client: what `<service>_get_client()` returned; that of `mistralai` is changed itself
    :param float seconds: None leaves what the library has set
    """
    if isinstance(client, ModuleType):
        return client
    if callable(getattr(client, "with_options", None)):
        if getattr(client, "max_retries", None):
            client = client.with_options(max_retries=0)
        if seconds and hasattr(client, "timeout"):
            client = client.with_options(timeout=seconds)
    configuration = getattr(client, "sdk_configuration", None)
    if getattr(configuration, "retry_config", None):
        configuration.retry_config = None
    return client


def hear_connections(client, on_response):
    """Have a vendor's client tell of its connections, so that it can be hung up on.

    Those of `openai`, `anthropic`, `mistralai`, `ollama` and `replicate` are made of `httpx`, whose
    hooks may have `httpcore` trace what it does:
    https://www.encode.io/httpcore/extensions/#trace.

    :param on_response: see `Execution.on_response()`; None for nobody who wants to know
    """
    if isinstance(client, ModuleType):
        return
    http = getattr(client, "_client", None) or getattr(
        getattr(client, "sdk_configuration", None), "client", None
    )
    hooks = getattr(http, "event_hooks", None)
    if not on_response or not isinstance(hooks, dict):
        return

    def trace(_event, info):
        stream = info.get("return_value")
        if sock := hasattr(stream, "get_extra_info") and stream.get_extra_info("socket"):
            on_response(Connection(sock))

    def watch(request):
        request.extensions = {**request.extensions, "trace": trace}

    http.event_hooks = {**hooks, "request": [*hooks.get("request", ()), watch]}


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
