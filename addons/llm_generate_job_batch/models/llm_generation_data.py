import contextlib
import functools
import json
import math
import re

import referencing.jsonschema

from odoo import api, fields, models
from odoo.exceptions import UserError

from odoo.addons.llm_generate_job.protocol.sanitize import sanitize_json
from odoo.addons.llm_generate_job.protocol.schema import BROKEN, SPECIFICATIONS, validator

#: The argument of a chat by which a service is told what its answer has to be.
FORMAT = "response_format"
#: What servers say that do not know it, or not for this model or schema: OpenAI's likes name the
#: argument, Groq writes "response format `json_schema`", Gemini that a schema "produces a
#: constraint that has too many states", or no more than "invalid argument".
FORMAT_RE = re.compile(r"response[_ ]format|schema|structured output|invalid argument", re.I)
#: Questions asked once more about one answer, at most: each is paid for.
MAX_REPAIRS = 10
TOLD = "\n\nAnswer with JSON only, as this JSON Schema describes it:\n"
TOO_DEEP = "it is nested too deeply"
#: How a sentence begins that is about the schema, and not about the answer.
OF_SCHEMA = "output_schema:"
REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
#: What models put around JSON.
FENCE = re.compile(r"```(?:json)?[ \t]*\n(.*)\n[ \t]*```", re.DOTALL | re.IGNORECASE)


def read_json(text):
    """Return the JSON that a model wrote, which may stand in a block of Markdown.

    :raise ValueError: for anything else

    >>> read_json('```json\\n{"value": 7}\\n```')
    {'value': 7}
    """
    text = text.strip()
    fenced = FENCE.fullmatch(text)
    try:
        return json.loads(
            fenced[1] if fenced else text, parse_constant=_finite, parse_float=_finite
        )
    except RecursionError:
        raise ValueError(TOO_DEEP) from None


def _finite(text):
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no number of JSON")
    return number


@functools.lru_cache(maxsize=128)
def lost_reference(text):
    """Return a reference of a JSON Schema that leads nowhere, or away; None where there is none.

    A check follows only the references that an answer needs, and when it has come.

    :param str text: of a schema in which `validator()` has found nothing wrong

    >>> lost_reference('{"properties": {"size": {"$ref": "#/$defs/size"}}}')
    '#/$defs/size'
    """
    lost = "#"
    try:
        for reference in _references(json.loads(text)):
            lost = reference  # it is followed when the next one is asked for
    except BROKEN:  # what it leads to may be no schema at all
        return str(lost)
    return None


def _references(schema):
    """Yield each reference of a schema, and of what it leads to, before it is followed."""
    told = schema.get("$schema") if isinstance(schema, dict) else None
    latest = referencing.jsonschema.DRAFT202012
    dialect = referencing.jsonschema.specification_with(told or "", default=latest)
    root = dialect.create_resource(schema)
    uri = root.id() or ""
    # Crawled once: what is not, is crawled for each reference to an anchor.
    resolver = SPECIFICATIONS.with_resource(uri, root).crawl().resolver(uri)
    parts, seen = [(root, resolver)], set()
    while parts:
        part, resolver = parts.pop()
        if not isinstance(part.contents, dict) or id(part.contents) in seen:
            continue
        seen.add(id(part.contents))
        for reference in filter(None, map(part.contents.get, REFERENCES)):
            yield reference
            found = resolver.lookup(reference)
            parts.append((dialect.create_resource(found.contents), found.resolver))
        parts += [(inner, resolver.in_subresource(inner)) for inner in part.subresources()]


class LlmGenerationJob(models.Model):
    """Answers that are data: they are what a JSON Schema says, or there is no answer."""

    _inherit = "llm.generation.job"  # pylint: disable=consider-merging-classes-inherited

    output_schema = fields.Json(
        "Schema of the Answer",
        help="The answer has to be JSON that this JSON Schema describes; without one, that of the"
        " model's details. Only answers that are not posted are looked at.",
    )
    max_repairs = fields.Integer(
        default=1,
        aggregator=None,
        help="Questions asked once more about an answer that is not what its schema says; each is"
        " paid for.",
    )
    output_data = fields.Json(
        "Data", compute="_compute_output_data", help="The answer, where it is data."
    )
    repair_count = fields.Integer("Repairs", compute="_compute_repair_count")
    unfit_output = fields.Text(
        readonly=True,
        copy=False,
        groups="base.group_system",
        help="What a batch of the provider answered, and is not what the schema says. It is"
        " repaired by itself, and not asked for again.",
    )

    @api.depends("output_text", "output_schema")
    def _compute_output_data(self):
        for job in self:
            job.output_data = False
            if job.output_text and job._answer_schema():
                with contextlib.suppress(ValueError):  # of before its model had a schema
                    job.output_data = sanitize_json(read_json(job.output_text))

    @api.depends("attempt_ids.repairs")
    def _compute_repair_count(self):
        for job in self:
            job.repair_count = sum(job.attempt_ids.mapped("repairs"))

    @api.model
    def _owner_fields(self):
        return super()._owner_fields() | {"max_repairs", "output_schema"}

    @api.model
    def _number_ranges(self):
        return {**super()._number_ranges(), "max_repairs": (0, MAX_REPAIRS)}

    def _check_inputs_with(self, check, **how):
        if self.output_schema and self.post:
            raise UserError(
                self.env._("Only an answer that is not posted can be data. Leave out its schema.")
            )
        if broken := self._broken_schema():
            raise UserError(self.env._("The schema of the answer is none:\n%s", broken))
        return super()._check_inputs_with(check, **how)

    def _broken_schema(self):
        """Return what is wrong with the schema of the answer, None where nothing is."""
        if not (schema := self._answer_schema()):
            return None
        for error in self._schema_errors({}):
            if error.startswith(OF_SCHEMA):
                return error
        text = schema if isinstance(schema, str) else json.dumps(schema, sort_keys=True)
        lost = lost_reference(text)
        return lost and f"{OF_SCHEMA} {lost[:200]!r} leads nowhere"

    def _answer_schema(self):
        """Return the JSON Schema of the answer, None where it is a text."""
        if self.post:
            return None
        details = self.model_id.sudo().details  # sudo: what is answered depends on the model
        of_model = details.get("output_schema") if isinstance(details, dict) else None
        return self.output_schema or of_model or None

    def _is_data_of_chat(self):
        """Return whether the answer is data for which a chat is asked, which can ask once more."""
        provider = self.provider_id.sudo()  # sudo: the job names its provider
        return bool(self._answer_schema() and provider._chat_parameters())

    def _is_asked_by_chat(self, runs_jobs):
        return super()._is_asked_by_chat(runs_jobs) or self._is_data_of_chat()

    def _schema_errors(self, data):
        return validator(self._answer_schema(), "answer", "output_schema")(data)

    def _answer_errors(self, text):
        """Return one sentence for each thing that is wrong with an answer, with its path.

        :param str text: as the model wrote it
        """
        try:
            data = read_json(text)
        except ValueError as error:
            return [f"answer: it is not JSON: {error}"[:300]]
        if errors := self._schema_errors(data):
            return errors
        # sudo: what is done with the answer was said by whoever wrote the action.
        action = self.sudo().batch_id.action_id
        try:
            if action:
                action._check_llm_answer(self, text)
        except ValueError as error:
            return [str(error)]
        return []

    def _asked_messages(self):
        messages = super()._asked_messages()
        if not (schema := self._answer_schema()):
            return messages
        *others, question = messages
        text = schema if isinstance(schema, str) else json.dumps(schema, ensure_ascii=False)
        return [*others, {**question, "content": question["content"] + TOLD + text}]

    def _told_inputs(self):
        told, limit = super()._told_inputs()
        schema = self._answer_schema()
        provider = self.provider_id.sudo()  # sudo: the job names its provider
        if isinstance(schema, dict) and FORMAT not in told and FORMAT in provider._chat_inputs():
            described = {"name": "answer", "schema": schema}
            told = {**told, FORMAT: {"type": "json_schema", "json_schema": described}}
        return told, limit


class LlmGenerationAttempt(models.Model):
    """Counts what was asked once more."""

    _inherit = "llm.generation.attempt"

    repairs = fields.Integer(
        readonly=True,
        aggregator="sum",
        help="Questions asked once more, as the answer was not what its schema says.",
    )
