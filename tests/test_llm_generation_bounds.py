from odoo.service.model import call_kw

from ..const import LAST_ID
from ..models.llm_generation_bounds import BOUNDS, INTEGERS, KEY_BOUND
from .common import LlmGenerationCommon

#: Models of this addon, and what it extends, of which a user or a manager writes something.
WRITTEN = (
    "llm.generation.job",
    "llm.generation.model.limit",
    "llm.generation.move",
    "llm.generation.prioritize",
    "llm.generation.queue",
    "llm.thread",
)
TOO_LONG = {kind: "x" * (bound + 1) for kind, bound in BOUNDS.items()}
TOO_LONG |= {"json": {"prompt": TOO_LONG["json"]}}
TOO_LONG |= dict.fromkeys(INTEGERS, LAST_ID + 1)


class TestLlmGenerationBounds(LlmGenerationCommon):
    """What is too large is kept nowhere: each field of each model that somebody writes is tried."""

    def setUp(self):
        super().setUp()
        self.thread = self._create_thread()
        limit = self.env["llm.generation.model.limit"].search([], limit=1)
        self.records = {
            "llm.generation.job": self._create_job(thread_id=self.thread.id),
            "llm.generation.model.limit": limit
            or limit.create({"queue_id": self.queue.id, "model_id": self.native_model.id}),
            "llm.generation.move": self.env["llm.generation.move"].create({
                "provider_id": self.native.id,
                "model_id": self.native_model.id,
            }),
            "llm.generation.prioritize": self.env["llm.generation.prioritize"].create({}),
            "llm.generation.queue": self.queue,
            "llm.thread": self.thread,
        }

    def _fields(self, records):
        return [
            field
            for field in records._fields.values()
            if field.type in TOO_LONG and field.store and not field.related and field.name != "id"
        ]

    def test_nothing_too_large_is_written(self):
        self.assertEqual(set(WRITTEN), self.records.keys())
        count = 0
        for name, records in self.records.items():
            for field in self._fields(records):
                with self.subTest(model=name, field=field.name):
                    before = self._values(records, [field.name])
                    refusal = self._refusal(records.write, {field.name: TOO_LONG[field.type]})
                    self.assertIn(field._description_string(self.env), refusal)
                    self.assertEqual(self._values(records, [field.name]), before)
                    count += 1
        self.assertGreaterEqual(count, 50)

    def test_nothing_too_large_is_created(self):
        for name, records in self.records.items():
            for field in self._fields(records):
                large = TOO_LONG[field.type]
                with self.subTest(model=name, field=field.name):
                    model = self.env[name]
                    self._refusal(model.create, {field.name: large})
                    given = model.with_context(**{f"default_{field.name}": large})
                    self._refusal(given.create, {})

    def test_a_default_that_a_user_has_chosen_is_bounded_too(self):
        self.env["ir.default"].set("llm.thread", "name", TOO_LONG["char"], user_id=self.user.id)
        Thread = self.env["llm.thread"].with_user(self.user)
        self._refusal(Thread.create, {"provider_id": self.native.id})

    def test_over_rpc_by_each_way(self):
        inputs = {"prompt": "x" * BOUNDS["json"]}
        thread = self.thread.with_user(self.user)
        job = self.records["llm.generation.job"].with_user(self.user)
        for records, method, args in (
            (job, "create", [{"thread_id": thread.id, "generation_inputs": inputs}]),
            (job, "write", [job.ids, {"generation_inputs": inputs}]),
            (job, "web_save", [job.ids, {"generation_inputs": inputs}, {}]),
            (job, "write", [job.ids, {"identity_key": "k" * (KEY_BOUND + 1)}]),
            (job, "write", [job.ids, {"priority": 2**31}]),
            (job, "write", [job.ids, {"priority": "many"}]),
            (job, "write", [job.ids, {"thread_id": 2**31}]),
            (thread, "write", [thread.ids, {"name": "x" * 5_000_000}]),
            (thread, "write", [thread.ids, {"generation_job_ids": [
                (0, 0, {"generation_inputs": inputs})]}]),
            (thread, "create", [{"name": "x" * 5_000_000}]),
        ):  # fmt: skip
            with self.subTest(model=records._name, method=method):
                model = self.env[records._name].with_user(self.user)
                self.assertTrue(self._refusal(call_kw, model, method, args, {}))
        self.assertEqual(self.thread.generation_job_ids, self.records["llm.generation.job"])

    def test_what_is_within_the_bounds_is_kept(self):
        inputs = {"prompt": "x" * (BOUNDS["json"] - len('{"prompt": ""}'))}
        key = "k" * KEY_BOUND
        job = self._create_job(generation_inputs=inputs, identity_key=key)
        self.thread.name = "n" * BOUNDS["char"]
        self.env.flush_all()
        self.env.invalidate_all()
        self.assertEqual((job.generation_inputs, job.identity_key), (inputs, key))
        of_long_name = self._create_job("queued", thread_id=self.thread.id)
        self.assertEqual(len(of_long_name.name), BOUNDS["char"])

    def test_an_empty_key_is_none(self):
        first = self._create_job("queued", identity_key="")
        second = self._create_job("queued", identity_key="")
        draft = self._create_job(identity_key="one")
        draft.identity_key = ""
        asked = [draft.thread_id.enqueue_generation("Hi", identity_key="") for _time in range(2)]
        self.assertEqual(len(set(asked)), 2)
        jobs = first + second + draft + asked[0] + asked[1]
        self.assertEqual(jobs.mapped("identity_key"), [False] * 5)

    def test_a_question_with_a_key_that_is_too_long_is_refused(self):
        thread = self._create_thread()
        long_key = {"identity_key": "k" * (KEY_BOUND + 1)}
        self.assertIn(str(KEY_BOUND), self._refusal(thread.enqueue_generation, "Hi", **long_key))
        long_key = {"identity_key": "\N{GRINNING FACE}" * 3000}
        self.assertIn(str(KEY_BOUND), self._refusal(thread.enqueue_generation, "Hi", **long_key))
        self.assertFalse(thread.message_ids.filtered("llm_role"))

    # === QUESTIONS === #

    def test_a_question_that_is_too_long_is_refused(self):
        thread = self._create_thread()
        long = "x" * (BOUNDS["html"] + 1)
        inputs = {"prompt": "x" * BOUNDS["json"]}
        for values in ({"body": long}, {"body": "Hi", "body_json": inputs}):
            for role in ("user", None):
                with self.subTest(values=list(values), role=role):
                    refusal = self._refusal(thread.message_post, llm_role=role, **values)
                    self.assertIn("attach", refusal)
        self.assertIn("attach", self._refusal(thread.enqueue_generation, long))
        Message = self.env["mail.message"]
        place = {"model": "llm.thread", "res_id": thread.id}
        self._refusal(Message.create, {**place, "body": long})
        message = thread.message_post(body="Hi", llm_role="user")
        self._refusal(message.write, {"body": long})
        self._refusal(message.write, {"body_json": inputs})

    def test_nothing_in_a_conversation_is_too_long_by_hand(self):
        long = "x" * 3_000_000
        thread = self._create_thread().with_user(self.user)
        Message = self.env["mail.message"].with_user(self.user)
        for role in ("user", "assistant", "tool", "system"):
            place = {
                "model": "llm.thread",
                "res_id": thread.id,
                "subtype_id": self.env.ref(f"llm.mt_{role}").id,
            }
            message = Message.create({**place, "body": "Hi"})
            for values in ({"body": long}, {"body_json": {"result": long}}):
                with self.subTest(role=role, values=list(values)):
                    self._refusal(Message.create, {**place, **values})
                    self._refusal(message.write, values)
            if role != "user":
                posted = thread.message_post(
                    body=long, llm_role=role, body_json={"tool_call_id": "c", "result": long}
                )
                self.assertLess(len(posted.body) + len(str(posted.body_json)), 2 * BOUNDS["html"])
                if role == "tool":
                    self.assertEqual(posted.body_json["tool_call_id"], "c")
                    self.assertTrue(posted.body_json["result"].endswith("[…]"))

    def test_an_answer_and_other_peoples_messages_are_as_long_as_they_are(self):
        long = "x" * (BOUNDS["html"] + 1)
        answer = self._create_thread().message_post(body=long, llm_role="assistant")
        self.assertGreater(len(answer.body), BOUNDS["html"])
        note = self.env.user.partner_id.message_post(body=long)
        self.assertGreater(len(note.body), BOUNDS["html"])
