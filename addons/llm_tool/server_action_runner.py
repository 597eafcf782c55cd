"""Run server actions with the rights of the user.

``ir.actions.server.run()`` alone does not: it looks at the rights on the model as the superuser,
writes and creates as the superuser, and runs the parts of a multi action as the superuser.
"""

from odoo.exceptions import AccessError, UserError


def run(env, allowed, action_id, record_ids=()):
    """Run an allowed action on the records, as the user of ``env``.

    :param allowed: ``ir.actions.server`` records in superuser mode
    """
    action = allowed.filtered(lambda candidate: candidate.id == action_id)
    if not action:
        raise UserError(
            env._(
                "Server action %(action)s is not allowed. An administrator can allow it in LLM >"
                " Configuration > Tools.",
                action=action_id,
            )
        )
    records = env[action.model_id.model].browse(record_ids)
    missing = records - records.exists()
    if missing:
        raise UserError(
            env._(
                "There is no record %(ids)s of model “%(model)s”. Search for the right ids.",
                ids=", ".join(map(str, missing.ids)),
                model=records._name,
            )
        )
    _run_as_user(action, records)
    return {"done": True, "action": action.name, "record_ids": records.ids}


def _run_as_user(action, records):
    _check_rights(action, records)
    if action.state == "multi":
        for child in action.child_ids.sorted():
            _run_as_user(child, records)
        return
    context = {
        "active_model": records._name,
        "active_id": records[:1].id,
        "active_ids": records.ids,
    }
    runnable = records.env["ir.actions.server"].browse(action.id).with_context(**context)
    try:
        runnable.run()
    except ValueError as error:
        # Its text quotes the code of the action, which only administrators may read.
        raise UserError(
            records.env._(
                "Action “%(action)s” failed: %(reason)s. Try other records, or do without it.",
                action=action.name,
                reason=error.__context__ or error,
            )
        ) from error


def _check_rights(action, records):
    env = records.env
    if action.group_ids and not action.group_ids & env.user.all_group_ids:
        raise AccessError(
            env._(
                "You may not run action “%(action)s”. Do without it, or ask an administrator.",
                action=action.name,
            )
        )
    if not records and not action._get_runner()[1]:
        raise UserError(
            env._(
                "Action “%(action)s” works on records. Give their ids in record_ids.",
                action=action.name,
            )
        )
    records.check_access("read")
    if action.state != "code" or not action.group_ids:
        records.check_access("write")
    if action.state == "object_write" and action.update_path:
        relations = action.update_path.split(".")[:-1]
        (records.mapped(".".join(relations)) if relations else records).check_access("write")
    if action.state in {"object_create", "object_copy"}:
        env[action.crud_model_id.model].check_access("create")
