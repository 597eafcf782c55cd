"""Search and read records for a language model: checked arguments, bounded answers."""

import json

from odoo.exceptions import UserError
from odoo.fields import Domain
from odoo.tools.json import json_default

from .const import DEFAULT_RECORDS, MAX_CELL_SIZE, MAX_COUNT, MAX_RESULT_SIZE


def search_records(env, model, domain=None, limit=DEFAULT_RECORDS, offset=0, order=None):
    """Return ids and names of the records of a domain, and how many there are.

    :param odoo.api.Environment env: its user's rights apply
    """
    target = _get_model(env, model)
    domain = _get_domain(target, domain)
    records = target.search(domain, limit=limit, offset=offset, order=order)
    rows = [{"id": record.id, "display_name": record.display_name} for record in records]
    return _answer(target, rows, offset, target.search_count(domain, limit=MAX_COUNT))


def read_records(
    env, model, fields, ids=None, domain=None, limit=DEFAULT_RECORDS, offset=0, order=None
):
    """Return fields of the records of a domain, or of the given ids.

    :param odoo.api.Environment env: its user's rights apply
    """
    target = _get_model(env, model).with_context(bin_size=True)
    known = target.fields_get(attributes=["type"])
    unknown = sorted(set(fields) - known.keys())
    if unknown:
        raise UserError(
            env._(
                "Model “%(model)s” has no field “%(unknown)s” that you may read. Its fields are:"
                " %(known)s.",
                model=model,
                unknown=", ".join(unknown),
                known=", ".join(sorted(known)[:100]),
            )
        )
    domain = _get_domain(target, domain)
    if ids is not None:
        domain &= Domain("id", "in", ids)
        limit = max(limit, len(ids))
    rows = target.search_read(domain, fields, limit=limit, offset=offset, order=order)
    return _answer(target, rows, offset, target.search_count(domain, limit=MAX_COUNT))


def _get_model(env, name):
    if name not in env or env[name]._abstract:
        raise UserError(
            env._(
                "There is no model “%(model)s” to search. Give the technical name of a model,"
                " such as res.partner.",
                model=name,
            )
        )
    env[name].check_access("read")
    return env[name]


def _get_domain(model, domain):
    try:
        parsed = Domain(domain or [])
        parsed.validate(model)
    except (TypeError, ValueError) as error:
        raise UserError(
            model.env._(
                "The domain is not valid: %(reason)s. Write it as a list of [field, operator,"
                " value] conditions on fields of “%(model)s”.",
                reason=error,
                model=model._name,
            )
        ) from error
    return parsed


def _answer(model, rows, offset, total):
    """Return as many rows as fit, and say when there are more."""
    kept = []
    size = 0
    for row in rows:
        plain = json.loads(json.dumps(row, default=json_default))
        cells = {name: _shorten(value) for name, value in plain.items()}
        size += len(json.dumps(cells, ensure_ascii=False))
        if size > MAX_RESULT_SIZE - 500:  # room for what stands around the rows
            break
        kept.append(cells)
    answer = {"model": model._name, "total": total, "records": kept}
    if offset + len(kept) < total:
        answer["next_offset"] = offset + len(kept)
    return answer


def _shorten(value):
    """Return a value no longer than a cell may be; long lists lose their end, too."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return value if len(text) <= MAX_CELL_SIZE else text[:MAX_CELL_SIZE] + "…"
