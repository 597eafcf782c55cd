"""The tools that a model calls in a thread."""

import json
import logging

import psycopg2

from odoo.exceptions import UserError

_logger = logging.getLogger(__name__)


def mark_of(call):
    """Return the `body_json` of a call's message before its tool runs: nobody runs it again."""
    name = call["function"]["name"]
    return {"tool_call_id": call["id"], "tool_name": name, "status": "executing"}


def run_tool(thread, call):
    """Execute a tool call as the current user, and return the `body_json` of its message.

    A failure is the tool's result: the model is told, and may try something else.
    """
    name = call["function"]["name"]
    data = {"tool_call_id": call["id"], "tool_name": name}
    try:
        given = call["function"]["arguments"] or {}
        data["arguments"] = json.loads(given) if isinstance(given, str) else given
        with thread.env.cr.savepoint():
            result = _get_tool(thread, name).execute(data["arguments"])
            data["result"] = json.loads(json.dumps(result, default=str))
    except json.JSONDecodeError:
        data["error"] = thread.env._("The arguments are not valid JSON.")
    except UserError as error:
        data["error"] = str(error)
    except psycopg2.OperationalError:
        raise  # a conflict with another transaction: the caller's to repeat
    except Exception:
        _logger.warning("Tool %s of thread %s failed", name, thread.id, exc_info=True)
        data["error"] = thread.env._("The tool failed for an internal reason.")
    return data


def _get_tool(thread, name):
    tool = thread.tool_ids.filtered(lambda candidate: candidate.name == name)[:1]
    if not tool:
        raise UserError(
            thread.env._(
                "There is no tool “%(name)s”. The tools are: %(tools)s.",
                name=name,
                tools=", ".join(thread.tool_ids.mapped("name")),
            )
        )
    return tool
