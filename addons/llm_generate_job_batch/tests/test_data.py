import contextlib
import functools
import json
import re
import time
from datetime import date, datetime
from unittest.mock import patch

from odoo.exceptions import UserError
from odoo.tests import new_test_user

from odoo.addons.llm_generate_job.exceptions import (
    AuthenticationError,
    BadRequestError,
    ContentRefusedError,
    OverloadedError,
    RateLimitedError,
    TransientError,
)
from odoo.addons.llm_generate_job.tests.common import LlmGenerationCommon

from ..models import llm_field_answer
from ..models.llm_generation_data import lost_reference, read_json

LOGGER = "odoo.addons.llm_generate_job_batch.models.llm_generation_engine"
SCHEMA = {
    "type": "object",
    "required": ["size"],
    "properties": {"size": {"type": "integer"}, "color": {"enum": ["red", "green"]}},
}
LOST_REF = "#/$defs/size"
LOST = {"type": "object", "properties": {"size": {"$ref": LOST_REF}}}
AWAY = {"properties": {"size": {"$ref": "https://example.com/size"}}}
UNKNOWN = (
    "This response_format is unavailable",
    "This model does not support response format `json_schema`.",
    "The specified schema produces a constraint that has too many states for serving.",
)
#: Ten ways to break what an integer in `value` has to be.
BROKEN = (
    "I think that it is 7.",
    '{"value": ',
    "{}",
    '{"value": "7"}',
    '{"value": 7.5}',
    '{"value": 1e400}',
    '{"value": true}',
    '{"value": NaN}',
    "[7]",
    '{"value": 7, "why": "It looks so"}',
)


class DataService:
    """A chat that answers each question by a list of texts, the last one again and again."""

    def __init__(self, texts_of):
        """Take a function that returns the texts for what is asked."""
        self.texts_of = texts_of
        self.asked, self.told = [], []
        self.prompt_tokens = self.completion_tokens = self.repairs = 0

    def chat(self, prepend_messages, response_format):
        asked = [message["content"] for message in prepend_messages if message["role"] == "user"]
        texts, turn = self.texts_of(asked[0]), len(asked) - 1
        self.asked.append(prepend_messages)
        self.told.append(response_format)
        self.repairs += bool(turn)
        usage = {"prompt_tokens": 10 + turn, "completion_tokens": 3 + len(self.asked) % 5}
        for kind, tokens in usage.items():
            setattr(self, kind, getattr(self, kind) + tokens)
        text = texts[min(turn, len(texts) - 1)]
        yield {"content": text[:4]}
        yield {"content": text[4:]}
        yield {"usage": usage}


class DataCommon(LlmGenerationCommon):
    @contextlib.contextmanager
    def _answering(self, *texts, texts_of=None):
        service = DataService(texts_of or (lambda _asked: texts))

        def chat(
            _provider,
            messages,
            model=None,
            prepend_messages=None,
            response_format=None,
            **_kwargs,
        ):
            return service.chat(prepend_messages, response_format)

        with self._offered(fakedirect_chat=chat):
            yield service

    def _run(self):
        return self._process_queue(self.direct)


class TestData(DataCommon):
    """An answer that has to be data is what its schema says, or none."""

    def setUp(self):
        super().setUp()
        self.thread = self._create_thread(self.direct_model)

    def _asked(self, **values):
        values = {"post": False, "output_schema": SCHEMA, **values}
        return self.thread.enqueue_generation("How large is it?", **values)

    def test_what_is_valid_is_the_answer(self):
        for text in ('{"size": 7}', '```json\n{"size": 7}\n```', ' {"size": 7}\n'):
            with self.subTest(text), self._answering(text) as service:
                job = self._asked()
                self._run()
                self.assertEqual((job.state, job.output_text), ("completed", text))
                self.assertEqual((job.output_data, job.repair_count), ({"size": 7}, 0))
                self.assertEqual(len(service.asked), 1)

    def test_a_service_is_told_as_it_can_be(self):
        with self._answering('{"size": 7}') as service:
            self._asked()
            self._run()
        self.assertEqual(
            service.told,
            [{"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}],
        )
        self.assertIn(json.dumps(SCHEMA), service.asked[0][-1]["content"])
        self.service.chunks = [{"content": '{"size": 7}'}]  # knows of no such argument
        job = self._asked()
        self._run()
        self.assertEqual(job.output_data, {"size": 7})
        self.assertIn(json.dumps(SCHEMA), self.service.calls["chat"][0][-1]["content"])

    def test_a_server_that_refuses_the_argument_is_asked_without(self):
        def chat(_provider, messages, model=None, prepend_messages=None, **kwargs):
            calls.append(kwargs.get("response_format"))
            if kwargs.get("response_format"):
                raise BadRequestError(said)
            yield {"content": '{"size": 7}'}

        def inputs(_provider):
            return ["response_format"]

        with self._offered(fakedirect_chat=chat, fakedirect_chat_inputs=inputs):
            for unknown in UNKNOWN:
                calls, said = [], unknown
                job = self._asked()
                self._run()
                self.assertEqual((job.state, len(calls), calls[1]), ("completed", 2, None))
            job = self._asked(inputs={"response_format": {"type": "json_object"}})
            self._run()
            self.assertEqual((job.state, job.error_type), ("failed", "bad_request"))

    def test_what_is_wrong_is_asked_once_more(self):
        with self._answering('{"size": "7"}', '{"size": 7}') as service:
            job = self._asked()
            self._run()
        self.assertEqual((job.state, job.output_data), ("completed", {"size": 7}))
        self.assertEqual((job.repair_count, job.attempt_ids.repairs), (1, 1))
        *_before, answer, question = service.asked[1]
        self.assertEqual(answer, {"role": "assistant", "content": '{"size": "7"}'})
        self.assertIn("answer.size: '7' is not of type 'integer'", question["content"])
        self.assertEqual(job.prompt_tokens, service.prompt_tokens)
        self.assertEqual(job.attempt_ids.completion_tokens, service.completion_tokens)

    def test_what_stays_invalid_fails_with_its_path_and_reason(self):
        for max_repairs in (0, 1, 2):
            with self.subTest(max_repairs), self._answering('{"size": 7, "color": "x"}') as service:
                job = self._asked(max_repairs=max_repairs)
                self._run()
                self.assertEqual((job.state, job.error_type), ("failed", "unreadable"))
                self.assertIn("answer.color: 'x' is not one of", job.error_message)
                self.assertEqual((job.output_text, job.output_data), ("", False))
                self.assertFalse(job.retry_at)
                asked = (job.repair_count, len(service.asked))
                self.assertEqual(asked, (max_repairs, max_repairs + 1))
                self.assertEqual(job.prompt_tokens, service.prompt_tokens)

    def test_an_error_of_a_repair_costs_a_retry(self):
        for error, error_type, retries in (
            (RateLimitedError("Slower"), "unknown_outcome", True),
            (AuthenticationError("Who?"), "unknown_outcome", True),
            (OverloadedError("Busy"), "unknown_outcome", True),
            (TransientError("Nobody there", unbilled=True), "unknown_outcome", True),
            (ContentRefusedError("No"), "content_refused", False),
        ):
            with self.subTest(error=repr(error)):

                def chat(_provider, messages, prepend_messages=None, _error=error, **_kwargs):
                    if [one["role"] for one in prepend_messages].count("user") > 1:
                        raise _error
                    yield {"content": "No"}

                with self._offered(fakedirect_chat=chat):
                    job = self._asked()
                    self._run()
                self.assertEqual((job.state, job.error_type), ("failed", error_type))
                self.assertEqual(bool(job.retry_at), retries)
                self.assertFalse(self.direct_queue.paused_until)

    def test_a_repair_of_a_job_that_was_cancelled_is_not_paid_for(self):
        def texts_of(_asked):
            self.env["llm.generation.job"].browse(job.id).action_cancel()
            return ["No"]

        with self._answering(texts_of=texts_of) as service:
            job = self._asked()
            self._run()
        self.assertEqual((job.state, len(service.asked)), ("cancelled", 1))

    def test_a_job_that_is_cancelled_while_its_answer_is_checked_asks_no_more(self):
        def cancelled(job, _text):
            self.env["llm.generation.job"].browse(job.id).action_cancel()
            return ["answer: it is not JSON"]

        with (
            self._answering("No", '{"size": 7}') as service,
            patch.object(self.registry["llm.generation.job"], "_answer_errors", cancelled),
        ):
            job = self._asked()
            self._run()
        self.assertEqual((job.state, len(service.asked)), ("cancelled", 1))

    def test_the_schema_of_the_model_counts_where_the_job_has_none(self):
        self.direct_model.details = {"output_schema": SCHEMA}
        with self._answering('{"size": 7, "color": "blue"}') as service:
            job = self._asked(output_schema=None, max_repairs=0)
            other = self._asked(output_schema={"type": "object", "required": ["size"]})
            self._run()
        self.assertEqual((job.state, other.output_data["color"]), ("failed", "blue"))
        self.assertEqual(len(service.told), 2)
        posted = self.thread.enqueue_generation("How large is it?")
        self._run()
        self.assertEqual((posted.state, posted.output_data), ("completed", False))

    def test_what_cannot_be_is_refused(self):
        for words, values in (
            ("Only an answer that is not posted", {"post": True}),
            ("output_schema: ", {"output_schema": {"type": "number or so"}}),
            ("'#/$defs/size' leads nowhere", {"output_schema": LOST}),
            ("'https://example.com/size' leads nowhere", {"output_schema": AWAY}),
            ("from 0 to 10", {"max_repairs": 11}),
        ):
            with self.subTest(words):
                self.assertIn(words, self._refusal(self._asked, **values))
        self.direct_model.details = {"output_schema": LOST}
        self.assertIn("leads nowhere", self._refusal(self._asked, output_schema=None))
        self.direct_model.details = {"output_schema": "No schema"}
        self.assertIn("output_schema: ", self._refusal(self._asked, output_schema=None))

    def test_each_reference_of_a_schema_is_followed(self):
        for schema, lost in (
            ({"$ref": "#"}, None),
            (True, None),
            ({"enum": [{"$ref": "#/data"}], "properties": {"$ref": {"type": "string"}}}, None),
            ({"$ref": "https://json-schema.org/draft/2020-12/schema"}, None),
            ({"$ref": "#/parts/a", "parts": {"a": {"type": "string"}}}, None),
            ({"$ref": "#/parts/a", "parts": {"a": {"items": {"$ref": "#size"}}}}, "#size"),
            ({"$defs": {"a": {"$id": "https://a.b/c"}}, "$ref": "https://a.b/c"}, None),
            ({"$schema": "http://json-schema.org/draft-07/schema#", "items": [LOST]}, LOST_REF),
            ({"$ref": "#/parts", "parts": {"properties": "none"}}, "#/parts"),
        ):
            with self.subTest(schema=schema):
                self.assertEqual(lost_reference(json.dumps(schema)), lost)

    def test_many_anchors_are_found_soon(self):
        schema = {"$defs": {"a": {"$anchor": "a"}}}
        schema["properties"] = {str(number): {"$ref": "#a"} for number in range(1000)}
        began = time.process_time()
        self.assertIsNone(lost_reference(json.dumps(schema)))
        self.assertLess(time.process_time() - began, 3)

    def test_a_schema_that_is_none_after_all_is_not_asked_about_again(self):
        with self._answering('{"size": 7}') as service:
            job = self._asked(max_repairs=5)
            job.sudo().output_schema = LOST
            self.env.flush_all()
            self._run()
        self.assertEqual((job.state, job.error_type), ("failed", "unreadable"))
        self.assertEqual((len(service.asked), job.repair_count), (1, 0))

    def test_a_provider_with_jobs_is_asked_by_its_chat(self):
        with self._answering("No", '{"size": 7}') as service:
            submit = patch.object(
                type(self.direct), "fakedirect_create_generation_job", self.fail, create=True
            )
            with submit:
                job = self._asked()
                self._run()
        self.assertEqual((job.output_data, len(service.asked)), ({"size": 7}, 2))

    def test_a_provider_with_jobs_is_told_only_what_its_chat_can_be(self):
        jobs = {"fakedirect_create_generation_job": self.fail}
        with self._answering('{"size": 7}'), self._offered(**jobs):
            asked = {"size_of": "all"}
            words = self._refusal(self._asked, inputs=asked)
            self.assertIn("cannot be given size_of", words)
            self.thread.enqueue_generation("How large is it?", inputs=asked, post=False)

    def test_what_a_provider_without_a_chat_answers_is_looked_at_too(self):
        for text, state in (('{"size": 7}', "completed"), ('{"size": "7"}', "failed")):
            with self.subTest(text):
                thread = self._create_thread()
                self.service.answers["create"] = [{"state": "completed", "output": text}]
                job = thread.enqueue_generation("Hi", post=False, output_schema=SCHEMA)
                self._process_queue()
                self.assertEqual((job.state, bool(job.output_text)), (state, state == "completed"))

    def test_json_is_read_strictly(self):
        for text in (*BROKEN[:2], BROKEN[5], BROKEN[7], "[" * 10_000, "1" * 10_000):
            with self.subTest(text[:20]), self.assertRaises(ValueError):
                read_json(text)


class TestFieldOfData(DataCommon):
    """A server action writes what a field can hold, with the rights of who set it off."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.user.group_ids += cls.env.ref("base.group_partner_manager")
        cls.user.tz = "Asia/Tokyo"

    def _rate(self):
        currency = self.env["res.currency"].create({"name": "OAK", "symbol": "o"})
        return self.env["res.currency.rate"].create({
            "name": "2001-01-01",
            "rate": 2,
            "currency_id": currency.id,
        })

    def _action(self, model, field, **values):
        return self.env["ir.actions.server"].create({
            "name": "Tell",
            "state": "llm_generate",
            "model_id": self.env["ir.model"]._get_id(model),
            "llm_model_id": self.direct_model.id,
            "llm_prompt": "What of {{ object.id }}?",
            "llm_target": "field",
            "llm_field_id": self.env["ir.model.fields"]._get(model, field).id,
            **values,
        })

    def _told(self, action, records, *texts, user=None):
        """Run an action, have each question answered, and return the jobs."""
        context = {"active_model": records._name, "active_ids": records.ids}
        with self._answering(*texts):
            action.with_user(user or self.user).with_context(
                **context, active_id=records[:1].id
            ).run()
            self._run()
        batch = self.env["llm.generation.batch"].search([("action_id", "=", action.id)], limit=1)
        return batch.job_ids

    def _jobs_of(self, action):
        return self.env["llm.generation.batch"].search([("action_id", "=", action.id)]).job_ids

    def _written(self, record, field, text, **values):
        """Have a field written, and return its value, and the jobs."""
        action = self._action(record._name, field, **values)
        jobs = self._told(action, record, text)
        return record[field], jobs

    def test_a_value_of_each_type_is_written(self):
        partner = self.env["res.partner"].create({"name": "Anna"})
        rate = self._rate()
        attendance = self.env["ir.cron"].create({
            "name": "Nightly",
            "model_id": self.env["ir.model"]._get_id("res.partner"),
            "state": "code",
        })
        for record, field, answer, expected in (
            (partner, "color", "7", 7),
            (partner, "color", "8.0", 8),
            (partner, "partner_latitude", "48.25", 48.25),
            (partner, "active", "true", True),
            (partner, "type", '"invoice"', "invoice"),
            (rate, "name", '"2026-11-28"', date(2026, 11, 28)),
            (attendance, "nextcall", '"2026-11-28T10:00:00"', datetime(2026, 11, 28, 1)),
            (attendance, "nextcall", '"2026-11-28T10:00:00+02:00"', datetime(2026, 11, 28, 8)),
        ):
            with self.subTest(field=field, answer=answer):
                self.user.group_ids += self.env.ref("base.group_system")
                value, jobs = self._written(record, field, f'{{"value": {answer}}}')
                self.assertEqual(jobs.state, "completed", jobs.error_message)
                self.assertEqual(value, expected)

    def test_a_moment_is_read_in_a_zone_that_systems_no_longer_know(self):
        self.user.partner_id.flush_recordset()
        self.env.cr.execute(
            "UPDATE res_partner SET tz = 'Türkiye' WHERE id = %s", [self.user.partner_id.id]
        )
        self.env.invalidate_all()
        reader = self.env["ir.actions.server"]._llm_read_datetime
        moment = reader(self.user.with_user(self.user), "2026-11-28T10:00:00")
        self.assertEqual(moment, datetime(2026, 11, 28, 7))

    def test_what_a_field_cannot_hold_is_not_written(self):
        partner = self.env["res.partner"].create({"name": "Anna", "color": 3, "type": "contact"})
        rate = self._rate()
        self.user.group_ids += self.env.ref("base.group_system")
        for record, field, answer, words in (
            (partner, "color", "2147483648", "greater than the maximum"),
            (partner, "color", "7.5", "is not of type"),
            (partner, "partner_latitude", "1e16", "greater than the maximum"),
            (partner, "active", "null", "is not of type"),
            (partner, "type", '"lover"', "is not one of"),
            (rate, "name", '"2026-02-30"', "day is out of range"),
            (rate, "name", "null", "is not of type"),
        ):
            with self.subTest(field=field, answer=answer):
                before = record[field]
                value, jobs = self._written(record, field, f'{{"value": {answer}}}')
                self.assertEqual((jobs.state, jobs.error_type), ("failed", "unreadable"))
                self.assertIn("answer.value: ", jobs.error_message)
                self.assertIn(words, jobs.error_message)
                self.assertEqual((value, jobs.repair_count), (before, 1))

    def test_what_cannot_be_told_is_left_as_it_is(self):
        partner = self.env["res.partner"].create({"name": "Anna", "color": 3})
        value, jobs = self._written(partner, "color", '{"value": null}')
        self.assertEqual((value, jobs.state), (3, "completed"))

    def test_records_are_chosen_by_name(self):
        partner = self.env["res.partner"].create({"name": "Anna"})
        tags = self.env["res.partner.category"].create([{"name": "Oak"}, {"name": "Pine"}])
        title = self.env.ref("base.be")
        value, jobs = self._written(partner, "country_id", '{"value": " belgium"}')
        self.assertEqual((value, jobs.state), (title, "completed"), jobs.error_message)
        value, _jobs = self._written(partner, "category_id", '{"value": ["Oak", "Pine"]}')
        self.assertEqual(value, tags)
        for field, answer, words in (
            ("country_id", '"Atlantis"', "none is called 'Atlantis'"),
            ("country_id", '"Belg"', "there are 'Belgium'"),
            ("country_id", '""', "none is called ''"),
            ("category_id", '["Oak", "Teak"]', "'Teak'"),
        ):
            with self.subTest(field=field, answer=answer):
                before = partner[field]
                value, jobs = self._written(partner, field, f'{{"value": {answer}}}')
                self.assertIn(words, jobs.error_message)
                self.assertEqual(value, before)

    def test_a_record_is_chosen_by_what_it_is_shown_as(self):
        partner = self.env["res.partner"].create({"name": "Anna"})
        wood = self.env["res.partner.category"].create({"name": "Wood"})
        inner, oak = self.env["res.partner.category"].create([
            {"name": "Wood", "parent_id": wood.id},
            {"name": "Oak", "parent_id": wood.id},
        ])
        for name, tag in (
            ("Wood / Oak", oak),
            ("Wood", wood),
            ("Wood / Wood", inner),
        ):
            with self.subTest(name):
                value, jobs = self._written(partner, "category_id", f'{{"value": ["{name}"]}}')
                self.assertEqual((value, jobs.state), (tag, "completed"), jobs.error_message)

    def test_so_it_is_where_there_are_many(self):
        with self._patched(f"{llm_field_answer.__name__}.MOST_NAMES", 0):
            self.test_a_record_is_chosen_by_what_it_is_shown_as()

    def test_of_two_of_a_name_none_is_chosen(self):
        partner = self.env["res.partner"].create({"name": "Anna"})
        self.env["res.partner"].create([{"name": "Twin", "is_company": True}] * 2)
        value, jobs = self._written(partner, "parent_id", '{"value": "Twin"}')
        self.assertIn("several are called 'Twin'", jobs.error_message)
        self.assertFalse(value)

    def test_only_what_the_action_allows_is_chosen(self):
        partner = self.env["res.partner"].create({"name": "Anna"})
        domain = "[('code', 'in', ('BE', 'NL'))]"
        action = self._action("res.partner", "country_id", llm_domain=domain)
        schema = action._llm_schema(partner.with_user(self.user))
        self.assertEqual(schema["properties"]["value"]["enum"], ["Belgium", "Netherlands", None])
        jobs = self._told(action, partner, '{"value": "France"}')
        self.assertEqual((jobs.state, partner.country_id.id), ("failed", False))
        jobs = self._told(action, partner, '{"value": "Belgium"}')
        self.assertEqual(partner.country_id.code, "BE")
        for domain in ("code = BE", "[('chief', '=', 'BE')]", "[('code', 'is', 'BE')]"):
            with self.subTest(domain):
                action.llm_domain = domain
                self.assertIn("is no domain", action.warning)
                run = functools.partial(self._told, action, partner, '{"value": "Belgium"}')
                self.assertIn("address them first", self._refusal(run))
        self.assertEqual(len(self._jobs_of(action)), 2)

    def test_what_only_a_form_knows_is_refused_before_it_is_paid_for(self):
        partner = self.env["res.partner"].create({"name": "Anna"})
        action = self._action("res.partner", "country_id")
        field = self.env["res.partner"]._fields["country_id"]
        with patch.object(field, "domain", "[('code', '=', parent.code)]"):
            run = functools.partial(self._told, action, partner, '{"value": "Belgium"}')
            self.assertIn("is known to its form only", self._refusal(run))
        self.assertFalse(self._jobs_of(action))

    def test_names_are_told_in_the_language_in_which_they_are_looked_for(self):
        self.env["res.lang"]._activate_lang("de_DE")
        belgium = self.env.ref("base.be")
        belgium.with_context(lang="de_DE").name = "Belgien"
        self.user.lang = "de_DE"
        partner = self.env["res.partner"].create({"name": "Anna"})
        action = self._action("res.partner", "country_id", llm_domain="[('code', '=', 'BE')]")
        jobs = self._told(action.with_context(lang="en_US"), partner, '{"value": "Belgien"}')
        self.assertEqual(jobs.output_schema["properties"]["value"]["enum"], ["Belgien", None])
        self.assertEqual((jobs.state, jobs.repair_count), ("completed", 0), jobs.error_message)
        self.assertEqual(partner.country_id, belgium)

    def test_a_name_that_came_after_the_question_refuses_none_of_those_told(self):
        partner = self.env["res.partner"].create({"name": "Anna"})
        oak, pine = self.env["res.partner.category"].create([{"name": "Oak"}, {"name": "Pine"}])
        action = self._action(
            "res.partner", "category_id", llm_domain=f"[('id', 'in', {(oak + pine).ids})]"
        )
        records = partner.with_user(self.user)
        schema = action._llm_schema(records)
        self.assertEqual(schema["properties"]["value"]["items"]["enum"], ["Oak", "Pine"])
        oak.name = "Elm"
        context = {"active_model": "res.partner", "active_ids": partner.ids}
        action.with_user(self.user).with_context(**context, active_id=partner.id).run()
        oak.name = "Oak"
        self.env.flush_all()
        with self._answering('{"value": ["Pine"]}'):
            self._run()
        self.assertEqual(partner.category_id, pine)
        with patch.object(type(action), "_few_names", lambda *_: ["Elm"]):
            self.assertTrue(action._llm_value(records, '{"value": ["Oak", "Pine"]}'))

    def test_a_name_that_was_told_and_is_gone_is_not_written(self):
        partner = self.env["res.partner"].create({"name": "Anna"})
        oak = self.env["res.partner.category"].create({"name": "Oak"})
        action = self._action("res.partner", "category_id", llm_domain=f"[('id', '=', {oak.id})]")

        def texts_of(_asked):
            oak.name = "Elm"
            self.env.flush_all()  # the engine forgets what this test has in mind
            return ['{"value": ["Oak"]}']

        context = {"active_model": "res.partner", "active_ids": partner.ids}
        with self._answering(texts_of=texts_of) as service:
            action.with_user(self.user).with_context(**context, active_id=partner.id).run()
            self._run()
        job = self._jobs_of(action)
        self.assertEqual((job.state, job.error_type), ("failed", "unreadable"))
        self.assertIn("none is called 'Oak'", job.error_message)
        self.assertEqual((len(service.asked), job.repair_count), (2, 1))
        self.assertFalse(partner.category_id)

    def test_the_domain_of_the_field_counts_too(self):
        belgium = self.env.ref("base.be")
        states = self.env["res.country.state"].create([
            {"name": "Somewhere", "code": "S", "country_id": belgium.id},
            {"name": "Elsewhere", "code": "E", "country_id": self.env.ref("base.fr").id},
        ])
        partner = self.env["res.partner"].create({"name": "Anna", "country_id": belgium.id})
        value, jobs = self._written(partner, "state_id", '{"value": "Elsewhere"}')
        self.assertEqual((value.id, jobs.state), (False, "failed"))
        value, jobs = self._written(partner, "state_id", '{"value": "Somewhere"}')
        self.assertEqual(value, states[0])

    def test_nobody_chooses_what_they_may_not_read(self):
        partner = self.env["res.partner"].create({"name": "Anna"})
        hidden = self.env["res.partner"].create({"name": "Hidden", "is_company": True})
        self.env["ir.rule"].create({
            "name": "Hidden",
            "model_id": self.env["ir.model"]._get_id("res.partner"),
            "domain_force": f"[('id', '!=', {hidden.id})]",
        })
        value, jobs = self._written(partner, "parent_id", '{"value": "Hidden"}')
        self.assertEqual((value.id, jobs.state), (False, "failed"))
        self.assertNotIn("there are", jobs.error_message)

    def test_records_of_another_company_are_asked_for_and_written_there(self):
        first, second = self.user.company_id, self.env["res.company"].create({"name": "Second"})
        self.user.company_ids += second
        self.env["ir.rule"].create({
            "name": "Of a company",
            "model_id": self.env["ir.model"]._get_id("res.partner"),
            "domain_force": "[('company_id', 'in', company_ids + [False])]",
        })
        partners = self.env["res.partner"].create([
            {"name": "Anna", "company_id": first.id},
            {"name": "Bert", "company_id": second.id},
            {"name": "Carl"},
        ])
        both = {"allowed_company_ids": (first + second).ids}
        owners = [(first, both), (first, {})]
        if not self.direct._fields["company_id"].required:
            owners.append((first.browse(), both))
        for owner, context in owners:
            with self.subTest(owner=owner.name, context=context):
                self.direct.company_id = owner
                partners.color = 0
                action = self._action("res.partner", "color")
                self._told(action.with_context(**context), partners, '{"value": 7}')
                jobs = self._jobs_of(action)
                self.assertEqual((len(jobs), set(jobs.mapped("state"))), (3, {"completed"}))
                self.assertEqual(partners.mapped("color"), [7, 7, 7])
                self.assertEqual(jobs.company_id, owner or first + second)

    def test_records_of_a_company_of_others_are_asked_for_in_ones_own(self):
        second = self.env["res.company"].create({"name": "Second"})
        partner = self.env["res.partner"].create({"name": "Bert", "company_id": second.id})
        action = self._action("res.partner", "color")
        record = partner.with_user(self.user)
        self.assertFalse(action._llm_company(record))
        self.user.company_ids += second
        self.assertEqual(action._llm_company(record), second)
        self.assertFalse(action._llm_company(record.with_company(second)))
        self.assertFalse(action._llm_company(self.env["res.country"].with_user(self.user)))

    def test_a_model_that_gives_no_data_is_refused_with_what_to_do(self):
        def chat(_provider, messages, model=None, **_kwargs):
            yield {"content": "7"}

        partner = self.env["res.partner"].create({"name": "Anna"})
        action = self._action("res.partner", "color")
        self.assertFalse(action.warning)
        context = {"active_model": "res.partner", "active_ids": partner.ids}
        run = action.with_user(self.user).with_context(**context, active_id=partner.id).run
        records, model = partner.with_user(self.user), self.direct_model.with_user(self.user)
        words = "Direct model cannot answer with data, which “Color Index” needs."
        with self._offered(fakedirect_chat=chat):
            action.invalidate_recordset()
            self.assertIn(words, action.warning)
            self.assertIn(words, self._refusal(action._told_schema, records, model))
            self.assertIn("address them first", self._refusal(run))
            action.llm_field_id = self.env["ir.model.fields"]._get("res.partner", "comment")
            self.assertFalse(action.warning)
            action.llm_field_id = self.env["ir.model.fields"]._get("res.partner", "color")
        self.direct_model.model_use = "image_generation"
        action.invalidate_recordset()
        self.assertIn(words, action.warning)
        self.assertIn(words, self._refusal(action._told_schema, records, model))
        self.assertIn("address them first", self._refusal(run))
        self.assertFalse(self._jobs_of(action))

    def test_a_field_that_one_may_not_write_is_not_asked_for(self):
        reader = new_test_user(self.env, "generation_reader", "base.group_user")
        partner = self.env["res.partner"].create({"name": "Anna"})
        action = self._action("res.partner", "color", group_ids=self.env.ref("base.group_user"))
        with self.assertRaises(UserError):
            self._told(action, partner, '{"value": 1}', user=reader)
        field = self.env["res.partner"]._fields["color"]
        with patch.object(field, "groups", "base.group_system"), self.assertRaises(UserError):
            self._told(action, partner, '{"value": 1}')
        self.assertFalse(self.env["llm.generation.batch"].search([("action_id", "=", action.id)]))

    def test_a_field_that_was_changed_meanwhile_holds_nothing_invalid(self):
        partner = self.env["res.partner"].create({"name": "Anna", "type": "contact"})
        action = self._action("res.partner", "color")

        def texts_of(_asked):
            fields = self.env["ir.model.fields"]
            action.llm_field_id = fields._get("res.partner", "type")
            self.env.flush_all()  # the engine forgets what this test has in mind
            return ['{"value": 7}']

        with self._answering(texts_of=texts_of):
            context = {"active_model": "res.partner", "active_ids": partner.ids}
            action.with_user(self.user).with_context(**context, active_id=partner.id).run()
            self._run()
        self.assertEqual((partner.color, partner.type), (0, "contact"))

    def test_of_a_thousand_answers_no_invalid_one_is_written(self):
        tags = self.env["res.partner.category"].create([
            {"name": f"Tag {number}", "color": 99} for number in range(1000)
        ])
        number_of = {tag.id: number for number, tag in enumerate(tags)}

        def texts_of(asked):
            number = number_of[int(re.search(r"What of (\d+)", asked)[1])]
            good = f'{{"value": {number % 12}}}'
            if number % 10 >= 3:
                return [good]
            broken = BROKEN[number // 10 % 10]
            return [broken, good if number % 20 < 10 else broken]

        action = self._action("res.partner.category", "color")
        self.user.group_ids += self.env.ref("base.group_system")
        context = {"active_model": tags._name, "active_ids": tags.ids, "active_id": tags[0].id}
        with self._answering(texts_of=texts_of) as service:
            action.with_user(self.user).with_context(**context).run()
            self._run()
        jobs = self.env["llm.generation.batch"].search([("action_id", "=", action.id)]).job_ids
        wrong = {n for n in range(1000) if n % 10 < 3 and n % 20 >= 10}
        expected = [99 if number in wrong else number % 12 for number in range(1000)]
        self.assertEqual(tags.mapped(lambda tag: tag.color), expected)
        failed = jobs.filtered(lambda job: job.state == "failed")
        self.assertEqual((len(jobs), len(failed)), (1000, len(wrong)))
        self.assertEqual(jobs.mapped("error_type").count("unreadable"), len(wrong))
        self.assertTrue(all(job.error_message.startswith("answer") for job in failed))
        attempts = jobs.attempt_ids
        self.assertEqual(len(attempts), 1000)
        self.assertEqual((sum(attempts.mapped("repairs")), service.repairs), (300, 300))
        self.assertEqual(len(service.asked), 1300)
        for records in (attempts, jobs):
            self.assertEqual(sum(records.mapped("prompt_tokens")), service.prompt_tokens)
            self.assertEqual(sum(records.mapped("completion_tokens")), service.completion_tokens)
