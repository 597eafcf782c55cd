import logging

from markupsafe import Markup

from odoo import api, fields, models
from odoo.exceptions import AccessError, UserError

from odoo.addons.llm_generate_job.const import MEDIA_USES, UNFINISHED
from odoo.addons.llm_generate_job.models.llm_generation_bounds import BOUNDS
from odoo.addons.llm_generate_job.protocol.sanitize import redact

from .llm_field_answer import FIELD_TYPES

_logger = logging.getLogger(__name__)

EDITORS = "mail.group_mail_template_editor"


class LlmGenerationPrompt(models.AbstractModel):
    """Renders the prompts of server actions, with the rights of who runs them.

    Nothing is refused here: who may write a prompt was asked when it was written.
    """

    _name = "llm.generation.prompt"
    _description = "LLM Generation Prompt"
    _inherit = ["mail.render.mixin"]
    _unrestricted_rendering = True


class IrActionsServer(models.Model):
    """A server action that has a text generated for each of its records."""

    _inherit = "ir.actions.server"

    state = fields.Selection(
        selection_add=[("llm_generate", "Generate with LLM"), ("code",)],
        ondelete={"llm_generate": "cascade"},
    )
    llm_model_id = fields.Many2one(
        "llm.model",
        "Language Model",
        domain="[('model_use', 'in', ('chat', 'multimodal'))]",
        ondelete="restrict",
        index="btree_not_null",
    )
    llm_prompt = fields.Text(
        "Prompt",
        help="What is asked for each record, with placeholders as in email templates:"
        " {{ object.name }}.",
    )
    llm_target = fields.Selection(
        [("field", "Write it to a field"), ("note", "Post it as a note")],
        "Answer",
        default="note",
    )
    llm_field_id = fields.Many2one(
        "ir.model.fields",
        "Field for the Answer",
        domain=f"[('model_id', '=', model_id), ('ttype', 'in', {FIELD_TYPES}),"
        " ('store', '=', True), ('readonly', '=', False)]",
        ondelete="cascade",
        index="btree_not_null",
    )

    llm_economy = fields.Boolean(
        "Run When Idle", help="Generate when the provider has nothing else to do, within a day."
    )

    @api.model_create_multi
    def create(self, vals_list):
        actions = super().create(vals_list)
        actions.filtered("llm_prompt")._check_prompt_author()
        return actions

    def write(self, vals):
        result = super().write(vals)
        if vals.keys() & {"llm_prompt", "model_id"}:
            self.filtered("llm_prompt")._check_prompt_author()
        return result

    def _check_prompt_author(self):
        """Refuse code in a prompt by those who may not write it in an email template, either."""
        if self.env.is_admin() or self.env.user.has_group(EDITORS):
            return
        Prompt = self.env["llm.generation.prompt"]
        for action in self:
            if Prompt._has_unsafe_expression_template_inline_template(
                action.llm_prompt, action.model_name
            ):
                raise AccessError(
                    self.env._("Only those who may edit email templates can write such a prompt.")
                )

    @api.model
    def _warning_depends(self):
        ours = ["llm_model_id", "llm_prompt", "llm_target", "llm_field_id", "llm_domain"]
        return super()._warning_depends() + ours

    def _get_warning_messages(self):
        warnings = super()._get_warning_messages()
        if self.state != "llm_generate":
            return warnings
        if not self.llm_model_id or not self.llm_prompt:
            warnings.append(self.env._("To generate, a language model and a prompt are needed."))
        has_notes = hasattr(self.env.get(self.model_name), "message_post")
        if self.llm_target == "note" and not has_notes:
            warnings.append(self.env._("These records have no notes; choose a field."))
        field = self.llm_field_id
        if self.llm_target == "field" and (
            field.model_id != self.model_id or field.ttype not in FIELD_TYPES
        ):
            warnings.append(self.env._("Choose a field of these records that can hold the answer."))
        return warnings

    def _run_action_llm_generate_multi(self, eval_context=None):
        """Queue a generation for each record, with the rights of who runs the action.

        A record for which this action already waits or runs is left out. Those of another company
        are asked for in that one, where the user works there. What an automation rule asks for and
        may not have is told in the log: what set off the rule is done all the same.
        """
        if self.env.context.get("llm_generation_answer"):
            return False  # an answer that sets off its own rule would go round for ever
        if "__action_done" not in self.env.context:  # which `base_automation` sets
            return self._generate_llm(eval_context)
        try:
            with self.env.cr.savepoint():
                return self._generate_llm(eval_context)
        except (AccessError, UserError) as error:
            _logger.warning("Action %s generates nothing: %s", self.id, redact(error))
            return False

    def _generate_llm(self, eval_context):
        env = eval_context["env"](su=False)
        records = eval_context.get("records") or eval_context.get("record")
        if not records:
            return False
        records = records.with_env(env)
        records.check_access("read")
        if self.llm_target == "field":
            records.check_access("write")
            records._check_field_access(self._llm_field(records), "write")
        # Where the context names no company, the user works in all of theirs, in each group, too.
        records = records.with_context(allowed_company_ids=(env.company | env.companies).ids)
        groups = records.grouped(self._llm_company).items()
        count = sum(self._queue_for(group.with_company(company)) for company, group in groups)
        return {
            "type": "ir.actions.client",
            "tag": "display_notification",
            "params": {
                "type": "success",
                "message": env._("%s answers are being generated.", count),
            },
        }

    @api.model
    def _llm_company(self, record):
        """Return the company of a record where it is another one that its user works in, else none.

        A job works in one company only, and so does what it writes.
        """
        company = record.env["res.company"]
        if "company_id" in record._fields:
            # sudo: where a record belongs does not depend on who asks.
            company = record.sudo().company_id.with_env(record.env)
        own = record.env.user._get_company_ids()
        return company.filtered(lambda one: one.id in own) - record.env.company

    def _queue_for(self, records):
        """Queue a generation for each of the records of a company; return how many."""
        model = self.llm_model_id.with_env(records.env)
        keys = [f"ir.actions.server,{self.id}:{record._name},{record.id}" for record in records]
        places = records.env["llm.generation.job"]._free_places(keys, model)
        if places:
            self._generate_for([records[place] for place in places], model, keys, places)
        return len(places)

    @api.model
    def _llm_posts(self, model):
        """Return whether answers need conversations: nobody reads them, nothing goes without."""
        return model.model_use in MEDIA_USES or not model.provider_id._answers_without_messages()

    def _generate_for(self, records, model, keys, places):
        env = model.env
        schema = self._told_schema(records, model)
        prompts = env["llm.generation.prompt"]._render_template(
            self.llm_prompt,
            self.model_name,
            [record.id for record in records],
            engine="inline_template",
        )
        post = self._llm_posts(model)
        place = {"threads": self._llm_threads(records, model)} if post else {"model": model}
        batch = env["llm.generation.job"].create_batch(
            [prompts[record.id] for record in records],
            **place,
            post=post,
            name=self.name,
            identity_keys=[keys[place] for place in places],
            is_economy=self.llm_economy,
            output_schema=schema,
        )
        # sudo: what is done with the answers was said by whoever wrote the action.
        batch.sudo().action_id = self.id

    def _llm_threads(self, records, model):
        values_list = [
            {
                "name": f"{self.name} · {record.display_name}"[: BOUNDS["char"]],
                "model": self.model_name,
                "res_id": record.id,
            }
            for record in records
        ]
        return model.env["llm.generation.job"]._batch_threads(model, values_list)

    def _llm_record(self, job):
        """Return the record that the answer of a job is for, in the environment of the job."""
        # Its key, which only this action gives, says which: see `_run_action_llm_generate_multi()`.
        model, _comma, res_id = (job.identity_key or "").rpartition(":")[2].partition(",")
        is_known = self.state == "llm_generate" and model == self.model_name
        record = job.env[self.model_name].browse(int(res_id) if is_known else ()).exists()
        # The job may belong to another company all the same: that of its provider.
        return record.with_company(self._llm_company(record))

    def _store_llm_answer(self, job):
        """Give the record of a job its answer, with the rights of the job's owner.

        An answer that is cut off or refused is no value of a field; a note says so.

        :raise AccessError: when they have lost the right to the record meanwhile
        """
        self.ensure_one()
        record = self._llm_record(job)
        if job.state != "completed" or not record:
            return
        record = record.with_context(llm_generation_answer=True)
        text = job.output_text or ""
        body = job.output_message_id.body or job.thread_id._process_llm_body(text)
        is_unfinished = job.finish_reason in UNFINISHED
        if self.llm_target == "note":
            record.check_access("read")
            if is_unfinished:
                body += Markup("<p><em>%s</em></p>") % job._status_sentence()
            bot = job.env.ref("base.partner_root")
            record.message_post(body=body, author_id=bot.id, subtype_xmlid="mail.mt_note")
            return
        if is_unfinished:
            return
        if self._holds_text(record):
            texts = {"html": body, "text": text, "char": " ".join(text.split())}
            value = texts[self._llm_field(record).type]
        else:
            value = self._llm_value(record, text)
        if value is not None:
            record.write({self.llm_field_id.name: value})
