import json

from markupsafe import Markup

from odoo import api, models
from odoo.exceptions import UserError
from odoo.tools import html2plaintext

from ..protocol import tokens
from ..protocol.schema import validator
from .llm_generation_bounds import BOUNDS

#: Characters of JSON that a job asks, wherever they come from; files belong into attachments.
INPUT_LIMIT = BOUNDS["json"]
#: Uses of a model that answer with files.
MEDIA_USES = ("generation", "image_generation")


class LlmGenerationRequest(models.AbstractModel):
    """What a job asks of its provider: inputs, their validation, and direct generation."""

    _name = "llm.generation.request"
    _description = "LLM Generation Request"

    @api.model_create_multi
    def create(self, vals_list):
        return super().create([self._without_empty_key(vals) for vals in vals_list])

    def write(self, vals):
        return super().write(self._without_empty_key(vals))

    @api.model
    def _without_empty_key(self, vals):
        return vals if vals.get("identity_key", True) else {**vals, "identity_key": False}

    def _check_inputs(self):
        """Validate the inputs against the model's `input_schema`, where it has one.

        :raise UserError: with the path and the reason of each thing that is wrong
        """
        for jobs in self.grouped("model_id").values():
            check = validator(jobs[0]._input_schema())
            for job in jobs:
                job._check_inputs_with(check)

    def _check_inputs_with(self, check):
        inputs = self._structured_inputs() or {}
        self._check_limit()
        if len(json.dumps(inputs)) > INPUT_LIMIT:
            raise UserError(
                self.env._("The inputs are larger than %s bytes; make them shorter.", INPUT_LIMIT)
            )
        is_asked = inputs or (self._is_media() and not self.input_message_id)
        if is_asked and (errors := check(inputs)):
            raise UserError(
                self.env._(
                    "The model %(model)s does not accept these inputs:\n%(errors)s",
                    # sudo: the job names its model.
                    model=self.model_id.sudo().name,
                    errors="\n".join(errors),
                )
            )

    def _check_limit(self):
        """Refuse a limit of the answer that is none, or of which the provider would not hear.

        What is reserved of a budget follows from it.

        :raise UserError: with what to write instead
        """
        limit = self._answer_limit()
        if limit and not self._is_media():
            provider = self.provider_id.sudo()  # sudo: the job names its provider
            if not provider._implements("create_generation_job"):
                self._told_limit(*limit)

    def _answer_limit(self):
        """Return the limit in the inputs, `(name, tokens)`, None where there is none.

        :raise UserError: for one that is none
        """
        inputs = self._structured_inputs()
        given = [name for name in tokens.LIMIT_NAMES if isinstance(inputs, dict) and name in inputs]
        if len(given) > 1:
            raise UserError(
                self.env._("%s mean the same: give only one of them.", ", ".join(given))
            )
        if given and not tokens.is_limit(inputs[given[0]]):
            raise UserError(
                self.env._(
                    "%(name)s has to be a whole number from 1 to %(most)s.",
                    name=given[0],
                    most=tokens.MOST_TOKENS,
                )
            )
        return (given[0], inputs[given[0]]) if given else None

    def _told_limit(self, name, limit):
        """Return the limit of a chat with the name by which the provider is told.

        :raise UserError: where it cannot be told
        """
        provider = self.provider_id.sudo()  # sudo: the job names its provider
        parameter = provider._limit_parameter(name)
        if not parameter:
            raise UserError(
                self.env._(
                    "%(provider)s cannot be told how long a chat's answer may be. Leave out"
                    " %(name)s.",
                    provider=provider.name,
                    name=name,
                )
            )
        return parameter, limit

    def _is_media(self):
        # sudo: what the job does depends on its model, not on who looks.
        return self.model_id.sudo().model_use in MEDIA_USES

    def _structured_inputs(self):
        """Return the inputs of the job, or those that a question to a model of media brings."""
        question = self.input_message_id.body_json if self._is_media() else None
        return self.generation_inputs or question

    def _input_schema(self):
        # sudo: as for its use.
        details = self.model_id.sudo().details
        return details.get("input_schema") if isinstance(details, dict) else None

    def _direct_events(self):
        """Yield the events of generating directly in the thread, as its user would.

        Media models answer by `_generate_response()` where the stack has it, else by
        `generate()`; all others by `generate_messages()`.
        """
        self.ensure_one()
        thread = self.thread_id
        question = self._question()
        if not self._is_media():
            yield from thread.generate_messages(question)
        elif question and not self.generation_inputs and hasattr(thread, "_generate_response"):
            yield from thread._generate_response(question)
        else:
            yield from self._media_events()

    def _question(self):
        """Return the message to answer; inputs with a prompt and no message become one."""
        inputs = self.generation_inputs
        prompt = inputs.get("prompt") if isinstance(inputs, dict) else None
        if not self.input_message_id and prompt and not self._is_media():
            message = self.thread_id.message_post(body=str(prompt), llm_role="user")
            # sudo: its owner changes nothing of a job that runs.
            self.sudo().input_message_id = message
        return self.input_message_id

    def _media_events(self):
        inputs = self._structured_inputs() or {
            "prompt": html2plaintext(self.input_message_id.body or "")
        }
        output, files = self.model_id.generate(inputs)
        body = Markup("<br/>").join(
            Markup('<a href="%s">%s</a>') % (file["url"], file.get("filename") or file["url"])
            for file in files or ()
            if str(file.get("url") or "").startswith(("http://", "https://"))
        )
        message = self.thread_id.message_post(
            body=body or self.env._("The generation has ended."),
            llm_role="assistant",
            body_json=output,
            author_id=False,
        )
        yield {"type": "message_create", "message": message.to_store_format()}
