from odoo import api, models
from odoo.fields import Domain

#: Managers that are named to who has to ask one.
NAMED_MANAGERS = 3


class LlmThread(models.Model):
    """How one begins: where LLM opens, the first steps, the provider of a new conversation."""

    _inherit = "llm.thread"

    @api.model
    def default_get(self, fields):
        """Take a provider that works in the place of one that does not, or of none."""
        values = super().default_get(fields)
        names = {"provider_id", "model_id"}
        is_given = any(f"default_{name}" in self.env.context for name in names)
        if names <= set(fields) and not is_given:
            working = self.env["llm.provider"]._working_providers()
            if working and values.get("provider_id") not in working.ids:
                model = working[0]._talking_model()
                values |= {"provider_id": working[0].id, "model_id": model.id}
        return values

    @api.model
    def action_open_llm(self):
        """Open what LLM is for: its first menu, or the first steps while it cannot be used yet."""
        if self.get_first_steps()["steps"]:
            return self.env["ir.actions.actions"]._for_xml_id(
                "llm_generate_job.llm_first_steps_client_action"
            )
        return self._chat_action()

    @api.model
    def _chat_action(self):
        """Return the action of the first menu, in which one asks."""
        root = self.env.ref("llm.menu_llm_root")
        menus = self.env["ir.ui.menu"].search([("parent_id", "=", root.id)])
        action = menus.filtered("action")[:1].action
        return self.env["ir.actions.actions"]._for_xml_id(action.get_external_id()[action.id])

    @api.model
    @api.readonly
    def get_first_steps(self):
        """Return what is to be done before there is something to see.

        :return: dict of `steps`, a list of `{name, title, text, done, can}` in their order, empty
            once each is done; `ask`, a sentence for who can do none of them; `provider`, the id
            of the one to test; `defaults` of a new one; and `chat`, the action in which one asks
        """
        env = self.env
        Provider = env["llm.provider"]
        can = Provider.has_access("create")
        has_models = Domain("model_ids", "any", [("active", "=", True)])
        ready = fresh = Provider
        if Provider.has_access("read"):
            ready = Provider.search(has_models, limit=1)
            fresh = Provider.search(~has_models, limit=1)
        is_asked = bool(self.search_count([], limit=1))
        done = [bool(ready or fresh), bool(ready), is_asked]
        if all(done) or (ready and not can):
            return {"steps": []}
        titles = (env._("Provider"), env._("Test"), env._("First Question"))
        texts = (
            env._("Add a provider: the service that answers, with its address and key."),
            env._("Test it. A new provider's models are added, and one of them says a word."),
            env._("Ask something. The answer comes through the queue of the provider."),
        )
        steps = [
            {"name": name, "title": title, "text": text, "done": is_done, "can": can}
            for name, title, text, is_done in zip(
                ("provider", "test", "question"), titles, texts, done, strict=True
            )
        ]
        services = Provider._get_available_services()
        return {
            "steps": steps,
            "ask": False if can else self._whom_to_ask(),
            "provider": (fresh or ready).id,
            "defaults": services[:1]
            and {"default_service": services[0][0], "default_name": services[0][1]},
            "chat": self._chat_action() if can else False,
        }

    @api.model
    def _whom_to_ask(self):
        # sudo: who can help may be named to each user.
        managers = self.env.ref("llm.group_llm_manager").sudo().all_user_ids
        managers = managers.filtered(
            lambda user: user.active and not user.share and self.env.company in user.company_ids
        )
        names = ", ".join(managers[:NAMED_MANAGERS].mapped("name"))
        if not names:
            return self.env._("No model can be asked yet. Your administrator can set one up.")
        return self.env._("No model can be asked yet. Ask who sets them up: %s.", names)
