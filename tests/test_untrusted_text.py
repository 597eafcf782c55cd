import json
from contextlib import ExitStack
from html import unescape
from unittest.mock import patch

from odoo.exceptions import UserError
from odoo.service.model import call_kw
from odoo.tools import mute_logger

from ..const import ERROR_MESSAGE_LIMIT
from ..exceptions import BadRequestError
from ..protocol.sanitize import ANSWER_LIMIT, CALLS_LIMIT, DATA_LIMIT
from ..runner.executor import CallRecorder
from .common import LlmGenerationCommon
from .nasty import TEXTS, VALUES
from .rights import has_table
from .signatures import sign_standard
from .test_untrusted import ANSWER_KEYS

ENDED = {"completed", "failed", "cancelled"}
#: What none of these texts may become in a message.
ACTIVE = ("<script", "<img", "<form", "<input", 'href="javascript', "<t ")
#: Direction of writing turned by force, and characters that nobody can see or print.
UNSEEN = ("\u202e", "\u202d", "\u2066", "\u2067", "\x00", "\x07", "\x1b", "\ud800", "\udfff")
QUIET = (
    "odoo.addons.llm_generate_job.engine.execute",
    "odoo.addons.llm_generate_job.engine.complete",
    "odoo.addons.llm_generate_job.engine.maintain",
    "odoo.addons.llm_thread.tool_runner",
)


class TestUntrustedText(LlmGenerationCommon):
    """A table of nasty texts by the places where they come in: the job ends, and all is text."""

    def setUp(self):
        super().setUp()
        stack = self.enterContext(ExitStack())
        for name in QUIET:
            stack.enter_context(mute_logger(name))

    def _run(self, job):
        """Run a job to its end, and check what everybody is shown of it."""
        queue = self.env["llm.generation.queue"]._get_or_create_queue(job.provider_id)
        queue.sudo()._resume()
        self._process_queue(job.provider_id)
        if job.state == "running":
            job.with_user(self.user).check_status()
        self.env.flush_all()
        self.env.invalidate_all()
        self._check_shown(job)
        return job

    def _check_shown(self, job):
        mine = job.with_user(self.user)
        shown = [mine.read(), mine.attempt_ids.read(), mine._bus_payload()]
        messages = self._conversation(mine.thread_id)
        json.dumps([shown, messages], default=str).encode()
        self.assertLessEqual(len(job.error_message or ""), ERROR_MESSAGE_LIMIT)
        self.assertLessEqual(len(job.external_job_id or ""), 1000)
        self.assertLessEqual(len(json.dumps(job.provider_data)), DATA_LIMIT)
        for text in (job.error_message or "", job.external_job_id or "", job.name):
            self.assertFalse([mark for mark in UNSEEN if mark in text], text[:200])
        for message in messages:
            self.assertLessEqual(len(unescape(message["body"])), 2 * ANSWER_LIMIT)
            active = [tag for tag in ACTIVE if tag in message["body"]]
            self.assertFalse(set(active) - self._allowed(), message["body"][:300])
            self.assertFalse([mark for mark in "\x00\x07\x1b\ud800" if mark in message["body"]])

    @staticmethod
    def _allowed():
        """Return what an answer may be: the family makes HTML of it, which is sanitized."""
        return set() if has_table("llm_thread") else {"<img"}

    def _end(self, job):
        if job.state not in ENDED:
            job.action_cancel()

    # === DIRECT GENERATION === #

    def _ask(self, chunks):
        self.service.chunks = chunks
        return self._run(self._create_thread(self.direct_model).enqueue_generation("Hello"))

    def test_chunks_of_an_answer(self):
        for name, text in TEXTS.items():
            with self.subTest(name):
                job = self._ask([{"content": "Well, "}, {"content": text}, {"content": " end."}])
                self.assertEqual(job.state, "completed", job.error_message)
                body = unescape(job.output_message_id.body)
                self.assertTrue("Well, " in body)
                # Within what the family takes for HTML, an element without an end has the rest.
                if has_table("llm_thread") or "<" not in text:
                    self.assertEqual("end." in body, len(text) < ANSWER_LIMIT)

    def test_a_nul_does_not_lose_the_answer(self):
        job = self._ask([{"content": "One\x00 "}, {"content": "\x00"}, {"content": "two\ud83d."}])
        self.assertEqual((job.state, job.error_message), ("completed", False))
        self.assertEqual(job.output_message_id.body.strip(), '<p dir="auto">One two?.</p>')

    def test_errors_of_a_stream(self):
        for name, text in TEXTS.items():
            for chunk in ({"error": text}, ValueError(text)):
                with self.subTest(name, kind=type(chunk).__name__):
                    job = self._ask([{"content": "Hm. "}, chunk])
                    self.assertEqual(job.state, "failed")
                    self.assertTrue(job.error_message)

    def test_usage_and_odd_chunks(self):
        for name, value in VALUES.items():
            with self.subTest(name):
                usage = {"prompt_tokens": value, "completion_tokens": value}
                job = self._ask([{"content": "Hi"}, {"usage": usage}, {"usage": value}])
                self.assertIn(job.state, ENDED)
                self.assertLess(abs(job.prompt_tokens), 2**31)

    def test_content_that_is_no_text(self):
        for name, value in VALUES.items():
            if isinstance(value, str) or not value:
                continue
            with self.subTest(name):
                job = self._ask([{"content": value}])
                self.assertEqual(job.state, "failed")
                # The family says that its provider failed, whatever it was.
                kinds = {"internal"} if has_table("llm_thread") else {"internal", "provider_failed"}
                self.assertIn(job.error_type, kinds)

    def test_tool_calls(self):
        tool = self.env["llm.tool"].search([], limit=1)
        texts = {
            **TEXTS,
            "deep": "[" * 10_000 + "]" * 10_000,
            "nan": '{"a": NaN, "b": 1e999}',
            "escapes": '{"a": "\\u0000\\ud800"}',
        }
        for name, text in texts.items():
            for function in (
                {"name": tool.name, "arguments": text},
                {"name": text, "arguments": json.dumps({"a": text})},
            ):
                with self.subTest(name):
                    thread = self._create_thread(self.direct_model, tool_ids=[(6, 0, tool.ids)])
                    call = {"id": "call-1", "type": "function", "function": function}
                    turns = iter([[{"tool_calls": [call]}], [{"content": "Done."}]])
                    self.service.chat = lambda _messages, turns=turns: iter(next(turns))
                    job = self._run(thread.enqueue_generation("Hello"))
                    del self.service.chat
                    self.assertEqual(job.state, "completed", job.error_message)

    def test_calls_of_tools_that_are_too_long_are_kept_short_and_told_of(self):
        tool = self.env["llm.tool"].search([], limit=1)
        thread = self._create_thread(self.direct_model, tool_ids=[(6, 0, tool.ids)])
        long = json.dumps({"model": "x" * 3_000_000})
        calls = [
            {"id": f"c{number}", "type": "function", "function": {"name": name, "arguments": text}}
            for number, (name, text) in enumerate([
                ("none", json.dumps({"a": "x" * 1000})),
                (tool.name, long),
                (tool.name, long),
            ])
        ]
        turns = iter([[{"tool_calls": [call]} for call in calls], [{"content": "Done."}]])
        asked = []
        self.service.chat = lambda messages, **_kw: asked.append(messages) or iter(next(turns))
        job = self._run(thread.enqueue_generation("Hello"))
        del self.service.chat
        self.assertEqual(job.state, "completed", job.error_message)
        messages = thread.message_ids.sorted("id")
        for message in messages:
            self.assertLess(len(json.dumps(message.body_json)), CALLS_LIMIT)
        made = messages.filtered(lambda one: one.llm_role == "assistant")[0].body_json
        self.assertEqual([call["id"] for call in made["tool_calls"]], ["c0", "c1"])
        self.assertEqual(made["tool_calls"][0], calls[0])
        self.assertIsInstance(json.loads(made["tool_calls"][1]["function"]["arguments"]), str)
        results = messages.filtered(lambda one: one.llm_role == "tool").mapped("body_json")
        self.assertEqual([bool(result.get("error")) for result in results], [True, True])

    def test_what_a_tool_writes_on_a_message_is_kept_short(self):
        """The family writes a result on the message of its call."""
        message = self._create_thread(self.direct_model).message_post(
            body="Tool", llm_role="tool", body_json={"tool_call_id": "c1"}
        )
        written = {"tool_call_id": "c1", "result": "x" * 2_000_000}
        with_recorder = message.with_context(generation_recorder=CallRecorder())
        with_recorder.write({"body_json": written})
        self.assertEqual(message.body_json["tool_call_id"], "c1")
        self.assertLess(len(json.dumps(message.body_json)), CALLS_LIMIT)

    def test_what_a_tool_returns_is_kept_short(self):
        tool = self.env["llm.tool"].search([], limit=1)
        thread = self._create_thread(self.direct_model, tool_ids=[(6, 0, tool.ids)])
        call = {"id": "c1", "type": "function", "function": {"name": tool.name, "arguments": "{}"}}
        for returned in ("\U0001f600" * 2_000_000, [{"a": "x" * 1000}] * 3000):
            turns = iter([[{"tool_calls": [call]}], [{"content": "Done."}]])
            self.service.chat = lambda _messages, turns=turns: iter(next(turns))
            with self.subTest(kind=type(returned).__name__):
                with patch.object(type(tool), "execute", lambda _tool, _given, out=returned: out):
                    job = self._run(thread.enqueue_generation("Hello"))
                self.assertEqual(job.state, "completed", job.error_message)
                kept = thread.message_ids.filtered(lambda one: one.llm_role == "tool")[0].body_json
                self.assertLess(len(json.dumps(kept)), DATA_LIMIT)
                self.assertEqual((kept["tool_call_id"], kept["arguments"]), ("c1", {}))
                self.assertTrue(kept["result"].endswith("[…]"))
            del self.service.chat

    # === JOBS OF THE PROVIDER === #

    def _submit(self, create, check=None):
        self.service.answers["create"] = [create]
        self.service.answers["check"] = [check or {"state": "completed"}]
        return self._run(self._create_job("queued"))

    def test_ids_of_a_provider(self):
        for name, text in TEXTS.items():
            for answer in (text, {"state": "queued", "external_job_id": text}):
                with self.subTest(name, kind=type(answer).__name__):
                    job = self._submit(answer)
                    self.assertIn(job.state, ENDED)

    def test_errors_of_a_provider(self):
        for name, text in TEXTS.items():
            for error in (BadRequestError(text), UserError(text), KeyError(text)):
                with self.subTest(name, error=type(error).__name__):
                    job = self._submit(error)
                    self.assertEqual(job.state, "failed")
                    self.assertTrue(job.error_message)
                    self._end(job)

    def test_answers_of_a_provider(self):
        for name, value in {**VALUES, **TEXTS}.items():
            for state in ("completed", "failed"):
                job = self._submit("ext-1", {"state": state, **dict.fromkeys(ANSWER_KEYS, value)})
                with self.subTest(name, state=state):
                    self.assertEqual(job.state, state, job.error_message)

    def test_a_state_that_is_none(self):
        for name, value in {**VALUES, **TEXTS}.items():
            with self.subTest(name):
                job = self._submit("ext-1", {"state": value})
                self.assertIn(job.state, {"running", "failed"})
                self._end(job)

    def test_the_final_message_of_a_provider(self):
        for name, text in TEXTS.items():

            def post(job, text=text):
                message = job.thread_id.message_post(
                    body=text, body_json={"text": text}, llm_role="assistant", author_id=False
                )
                return {"state": "completed", "output_message_id": message.id}

            with self.subTest(name):
                job = self._submit("ext-1", post)
                self.assertEqual(job.state, "completed", job.error_message)
                self.assertTrue(job.output_message_id)

    # === WHAT PEOPLE SEND === #

    def _rpc(self, method, *args):
        """Call as a remote caller does; return the result, or the sentence of a refusal."""
        model = self.env["llm.generation.job"].with_user(self.user)
        try:
            with self.env.cr.savepoint():
                result = call_kw(model, method, list(args), {})
                self.env.flush_all()
        except UserError as refusal:
            self.env.invalidate_all(flush=False)
            return str(refusal)
        return result

    def test_inputs_of_a_job(self):
        thread = self._create_thread()
        refused = set()
        for name, value in {
            **VALUES,
            **{f"text {key}": text for key, text in TEXTS.items()},
        }.items():
            if name in {"bytes", "object", "set", "odd keys"}:
                continue  # no remote caller can send them
            with self.subTest(name):
                inputs = {"prompt": value}
                result = self._rpc("create", {"thread_id": thread.id, "generation_inputs": inputs})
                if isinstance(result, str):
                    refused.add(name)
                    self.assertRegex(result, "cannot be kept|is longer than")
                    continue
                result = self._rpc("action_queue", [result])
                if isinstance(result, str):
                    refused.add(name)
                    self.assertIn("larger than", result)
        self.assertLessEqual(
            {"deep list", "not a number", "nul", "surrogates", "five megabytes", "text nul"},
            refused,
        )
        self.assertFalse({"text script", "text template", "list", "many keys"} & refused)

    def test_names_and_keys_of_a_job(self):
        thread = self._create_thread()
        for name, text in TEXTS.items():
            with self.subTest(name):
                result = self._rpc("create", {"thread_id": thread.id, "identity_key": text})
                if name in {"nul", "surrogates"}:
                    self.assertIn("cannot be kept", result)
                elif not isinstance(result, str):
                    self._rpc("unlink", [result])
        job = self._create_job()
        for name in ("nul", "surrogates"):  # code alone names a job
            with self.assertRaisesRegex(UserError, "cannot be kept"):
                job.name = TEXTS[name]
        result = self._rpc("write", job.ids, {"identity_key": "a\x00"})
        self.assertIn("cannot be kept", result)

    def test_errors_that_code_tells(self):
        for name, text in TEXTS.items():
            with self.subTest(name):
                job = self._create_job("queued")
                job.action_fail(text)
                self.env.flush_all()
                self._check_shown(job)

    def test_a_webhook_with_anything_in_it(self):
        secret = "whsec_" + "c2VjcmV0" * 4
        self.queue.sudo().webhook_secret = secret
        job = self._create_job("queued")
        self._process_queue()
        bodies = [text.encode("utf-8", "surrogatepass") for text in TEXTS.values()]
        bodies += [b"[" * 100_000, b'{"id": "ext-1", "a": ' + b"[" * 100_000]
        for body in bodies:
            headers = sign_standard(secret, body)
            with (
                self.subTest(body[:20]),
                mute_logger("odoo.addons.llm_generate_job.engine.webhook"),
            ):
                webhook = self._engine()
                self.assertEqual(webhook._receive(job.id, job.webhook_token, headers, body), 401)
                self.assertEqual(
                    webhook._receive(job.id, body.decode("latin-1"), headers, body), 404
                )
        self.assertEqual(job.state, "running")
