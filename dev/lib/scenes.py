"""Pages that no menu opens, or that are empty in the demo: what is needed for them is made."""

from . import commands
from .say import halt

ACTION = "Introduce each contact"


def prepare(client):
    """Have a server action of ours, and a group of jobs that it asked for; as administrator."""
    if not client.call("ir.actions.server", "search", [["name", "=", ACTION]]):
        _make_action(client)

    def has_ended():
        return not client.call("llm.generation.group", "search", [["done_at", "=", False]])

    if not commands.wait_for(has_ended, 60, 0.5):
        halt("the jobs of the server action did not end in a minute.")


def _make_action(client):
    (model,) = client.call("ir.model", "search", [["model", "=", "res.partner"]])
    thread = client.call(
        "llm.generation.job", "search_read", [["state", "=", "completed"]], ["model_id"], limit=1
    )
    [action] = client.call("ir.actions.server", "create", [{
        "name": ACTION,
        "model_id": model,
        "state": "llm_generate",
        "llm_model_id": thread[0]["model_id"][0],
        "llm_prompt": "Who is {{ object.name }}? Answer in one sentence.",
    }])  # fmt: skip
    partners = client.call("res.partner", "search", [], limit=5)
    client.call(
        *("ir.actions.server", "run", [action]),
        context={"active_model": "res.partner", "active_ids": partners, "active_id": partners[0]},
    )


def addresses(client):
    """Yield (name, address, page of a notebook) of each page whose record this user may see."""
    for name, model, domain, action, tab in (
        ("action", "ir.actions.server", [["name", "=", ACTION]], "base.action_server_action", ""),
        ("user", "res.users", [["login", "=", "demo"]], "base.action_res_users", "preferences"),
    ):
        if client.call(model, "has_access", [], "write"):
            [record] = client.call(model, "search", domain, limit=1)
            yield name, f"{client.url}/odoo/action-{action}/{record}", tab
