from unittest.mock import patch

from odoo.tests import TransactionCase, new_test_user, tagged


class FakeChatMixin:
    """A provider whose `chat()` gives what the test put into `self.answers`, in turn.

    An answer is a list of chunks, of exceptions to raise, and of callables to call in their turn.
    `self.asked` has the arguments of each call.
    """

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.classPatch(
            cls.registry["llm.provider"],
            "_get_available_services",
            lambda self: [("fake", "Fake")],
        )
        cls.provider = cls.env["llm.provider"].create({"name": "Fake", "service": "fake"})
        cls.chat_model = cls.env["llm.model"].create({
            "name": "fake-chat",
            "provider_id": cls.provider.id,
            "model_use": "chat",
            "default": True,
        })
        cls.user = new_test_user(cls.env, "thread_user", "base.group_user")

    def setUp(self):
        super().setUp()
        self.answers = []
        self.asked = []
        provider_class = self.registry["llm.provider"]
        patcher = patch.object(provider_class, "chat", self._make_chat(), create=True)
        patcher.start()
        self.addCleanup(patcher.stop)

    def _make_chat(test):
        def chat(
            self, messages, model=None, stream=False, tools=None, prepend_messages=None, **kwargs
        ):
            test.asked.append({
                "messages": messages,
                "model": model,
                "stream": stream,
                "tools": tools,
                "prepend_messages": prepend_messages,
                "env": self.env,
            })
            return chunks_of(test.answers.pop(0))

        return chat


def chunks_of(answer):
    """Yield the chunks of an answer, call its callables and raise its exceptions."""
    for item in answer:
        if isinstance(item, Exception):
            raise item
        if callable(item):
            item()
        else:
            yield item


def words(*texts, usage=None):
    """Return the chunks of an answer of these pieces of text."""
    chunks = [{"content": text} for text in texts]
    return [*chunks, {"usage": usage}] if usage else chunks


def tool_call(name, arguments="{}", call_id="call_1"):
    """Return a chunk with one tool call."""
    function = {"name": name, "arguments": arguments}
    return {"tool_calls": [{"id": call_id, "type": "function", "function": function}]}


@tagged("post_install", "-at_install")
class LlmThreadCommon(FakeChatMixin, TransactionCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.thread = cls._create_thread()

    @classmethod
    def _create_thread(cls, **values):
        """Create a thread of the ordinary user, in their environment."""
        return (
            cls
            .env["llm.thread"]
            .with_user(cls.user)
            .create({"name": "Talk", "provider_id": cls.provider.id, **values})
        )

    def _ask(self, *answers, text="Hi", thread=None):
        """Generate with the given answers, and return the events."""
        self.answers.extend(answers)
        return list((thread or self.thread).generate(text))

    def _messages(self, thread=None):
        return (thread or self.thread).sudo()._search_conversation([], None)

    def _fail(self, generator, error_class):
        """Run a generator that fails; return its events and its exception.

        Unlike `assertRaises()`, it does not roll back what was written.
        """
        events = []
        try:
            for event in generator:
                events.append(event)
        except error_class as error:
            return events, error
        self.fail(f"{error_class.__name__} not raised")
        return None
