import contextlib
import logging
import time

import psycopg2

from odoo import api, fields, models
from odoo.exceptions import UserError
from odoo.fields import Domain
from odoo.http import request

from ..const import CHAT_USES
from ..exceptions import BadRequestError
from ..protocol.http_errors import classify, traceback_of
from ..protocol.sanitize import redact
from ..runner.cursor import lend_lazy, let_go
from ..runner.executor import hung_up_after, received

_logger = logging.getLogger(__name__)

#: Seconds for which somebody is let wait for a list of models, or for the first word of a test.
PATIENCE = 20
#: Tokens of a test's answer, of which the first word is read; some services refuse less.
TEST_TOKENS = 16
#: What says already what to do, or is not about the provider.
PASSED_ON = (NotImplementedError, UserError, psycopg2.Error)
#: By these the wizards that fetch models take those that are selected.
TAKE_OVER = ("action_apply", "action_confirm")
#: What asks a provider while its user waits, by model and method; the last but one is the family's.
ASKING = (
    ("llm.provider", "action_test"),
    ("llm.provider", "action_fetch_models"),
    ("llm.model", "action_open_fetch_this_model_wizard"),
    ("llm.generation.queue", "press_incident_button"),
)
#: By these addresses a page calls methods.
CALLS = ("/web/dataset/call_kw", "/web/dataset/call_button")


class IrHttp(models.AbstractModel):
    """Has nobody's connection and transaction last as long as a provider takes to answer."""

    _inherit = "ir.http"

    @classmethod
    def _dispatch(cls, endpoint):
        asked = (request.params.get("model"), request.params.get("method"))
        # Of any other route these are what its caller likes.
        if asked not in ASKING or not request.httprequest.path.startswith(CALLS):
            return super()._dispatch(endpoint)
        with lend_lazy(request):
            return super()._dispatch(endpoint)


class LlmProvider(models.Model):
    """Asks a provider while a person waits: what models it has, and whether it answers."""

    _inherit = "llm.provider"

    def action_fetch_models(self):
        """Ask for the models, and show what there is to choose from.

        :raise UserError: a sentence that says what is wrong, and where to correct it
        """
        try:
            with self._for_a_person() as provider:
                return super(LlmProvider, provider).action_fetch_models()
        except NotImplementedError as error:
            raise UserError(
                self.env._(
                    "The service of provider “%(provider)s” cannot list its models. Add them by"
                    " hand in LLM > Configuration > Models.",
                    provider=self.name,
                )
            ) from error

    @api.private
    def list_models(self, *args, **kwargs):
        if received(self.env, "generation_execution"):
            let_go(self.env.cr)  # the wizard, which is written before its lines are asked for
        return super().list_models(*args, **kwargs)

    def action_test(self):
        """Ask for the models and for one word, and tell how long each took, or what is wrong.

        A provider without models takes those that it lists. The word is a direct answer.

        :return: an action that tells; its `params` have `is_fine`
        """
        self.ensure_one()
        self.check_access("write")
        told, is_fine = [], False
        try:
            self._test_list(told)
            self._test_word(told)
            is_fine = True
        except UserError as error:
            told.append(str(error))
        return {
            "type": "ir.actions.client",
            "tag": "display_notification",
            "params": {
                "title": self.name,
                "message": " ".join(told),
                "type": "success" if is_fine else "danger",
                "sticky": not is_fine,
                "is_fine": is_fine,
                "next": {"type": "ir.actions.client", "tag": "soft_reload"},
            },
        }

    def _test_list(self, told):
        is_new = not self.with_context(active_test=False).model_ids
        began = time.monotonic()
        try:
            # What is listed is the wizard's to read: each family guesses what a model is for.
            action = self.action_fetch_models() if is_new else None
            wizard = action and self.env[action["res_model"]].browse(action["res_id"])
            count = len(wizard.line_ids if is_new else self._listed_models())
        except NotImplementedError:
            return  # it has no list; a word can be asked for all the same
        except UserError as error:
            if isinstance(error.__cause__, NotImplementedError):
                return
            raise
        seconds = time.monotonic() - began
        told.append(
            self.env._(
                "Models: %(count)s, listed in %(seconds).2f s.", count=count, seconds=seconds
            )
        )
        if is_new and count:
            getattr(wizard, next(name for name in TAKE_OVER if hasattr(wizard, name)))()
            self.invalidate_recordset(["model_ids"])
            told.append(self.env._("They were added."))

    def _listed_models(self):
        with self._for_a_person() as provider:
            # Of some services it is a generator, which asks when it is read.
            return list(provider.list_models() or ())

    def _test_word(self, told):
        model = self._talking_model()
        if not model:
            if not told:
                raise UserError(self.env._("It has no model that can answer yet: add one."))
            return  # it makes pictures, or vectors: nothing that costs little
        began = time.monotonic()
        try:
            with self._for_a_person() as provider:
                provider._hear_a_word(model.with_env(provider.env))
        except NotImplementedError:  # a service of jobs, or of files
            told.append(self.env._("It gives no direct answers: ask something to try it."))
            return
        told.append(
            self.env._(
                "%(model)s answered after %(seconds).2f s.",
                model=model.name,
                seconds=time.monotonic() - began,
            )
        )

    def _talking_model(self):
        """Return the model of the providers that chats by default, empty where none does."""
        talking = self.model_ids.filtered(lambda model: model.model_use in CHAT_USES)
        flag = next((name for name in ("default", "is_default") if name in talking._fields), None)
        return (flag and talking.filtered(flag)[:1]) or talking[:1]

    @api.model
    def _working_providers(self):
        """Return the providers with a model to talk to whose queue starts what is asked now."""
        providers = self.browse()
        if not providers.has_access("read"):
            return providers
        providers = providers.search([("model_ids.model_use", "in", CHAT_USES)])
        is_held = (
            Domain("enabled", "=", False)
            | Domain("refused_by", "!=", False)
            | Domain("paused_until", ">", fields.Datetime.now())
        )
        # sudo: that a queue holds its jobs back is told to each who asks.
        queues = self.env["llm.generation.queue"].sudo()
        held = queues.search(Domain("provider_id", "in", providers.ids) & is_held)
        return providers - held.provider_id.with_env(self.env)

    def _hear_a_word(self, model):
        """Have a model begin an answer, and hang up at its first word."""
        limit = self._limit_parameter("max_completion_tokens")
        try:
            self._hear_of(model, **({limit: TEST_TOKENS} if limit else {}))
        except Exception as error:
            # Some servers refuse a limit that is called otherwise than theirs, as Mistral's does.
            if not (limit and isinstance(classify(error), BadRequestError)):
                raise
            self._hear_of(model)

    def _hear_of(self, model, **limit):
        chunks = self.chat(
            self.env["mail.message"],
            model=model,
            stream=True,
            prepend_messages=[{"role": "user", "content": "Say OK."}],
            **limit,
        )
        with contextlib.closing(chunks):
            for chunk in chunks:
                if chunk.get("error"):
                    raise UserError(redact(chunk["error"], self._told_key()))
                if chunk.get("content"):
                    return

    @contextlib.contextmanager
    def _for_a_person(self):
        """Yield the provider for calls that a person waits for.

        They are hung up on after `PATIENCE` seconds, and told in a sentence when they fail.
        """
        let_go(self.env.cr)
        with hung_up_after(PATIENCE) as execution:
            try:
                yield self.with_context(**execution.context)
            except PASSED_ON:
                raise
            except Exception as error:
                raise UserError(self._sentence_of(error, execution.cancelled)) from error

    def _sentence_of(self, error, is_late):
        """Return what to tell of a call that failed, and where to correct it."""
        env, key = self.env, self._told_key()
        labels = {
            name: self._fields[name]._description_string(env) for name in ("api_key", "api_base")
        }
        if is_late:
            return env._("It did not answer within %(seconds)s seconds. Check “%(api_base)s”.",
                         seconds=PATIENCE, **labels)  # fmt: skip
        known = classify(error, error)
        if not known:
            _logger.warning("Provider %s failed\n%s", self.id, traceback_of(error, key))
        said = redact(known or f"{type(error).__name__}: {error}", key).rstrip(".")
        match known and known.error_type:
            case "authentication":
                advice = env._("Correct “%(api_key)s”.", **labels)
            case "quota":
                advice = env._("The account there needs credit.")
            case "rate_limited" | "overloaded":
                advice = env._("Try again in a minute.")
            case _:
                advice = env._(
                    "Check “%(api_base)s”: it begins with https:// or http://, and is what the"
                    " service's documentation says.",
                    **labels,
                )
        return f"{said}. {advice}"
