from odoo import models


class LlmOnchangeGuard(models.AbstractModel):
    """What a form is told of other records: of none that its user may not read.

    Odoo computes stored fields as superuser, also for a form that is not saved yet, and shows the
    name of any record that a value is. Who calls `onchange()` chooses the values.
    """

    _name = "llm.onchange.guard"
    _description = "LLM Onchange Guard"

    def onchange(self, values, field_names, fields_spec):
        if not self.env.su:
            for record in _referred(self, values):
                record.check_access("read")
        return super().onchange(values, field_names, fields_spec)


def _defaults(model):
    """Return the values that new records have by the context, or by what a user has chosen."""
    return {
        **model.env["ir.default"]._get_model_defaults(model._name),
        **{
            name.removeprefix("default_"): value
            for name, value in model.env.context.items()
            if name.startswith("default_")
        },
    }


def _referred(model, values):
    """Yield the records that values name, in each form that Odoo takes; defaults are values, too.

    Nested values are those of a line, or of the record that a line belongs to.
    """
    for name, value in {**_defaults(model), **values}.items():
        field = model._fields.get(name)
        if field and field.relational:
            comodel = model.env[field.comodel_name]
            several = field.type != "many2one" and isinstance(value, list | tuple)
            for one in value if several else [value]:
                yield from _named(comodel, one)


def _named(comodel, value):
    """Yield the records that an id, the values of a record, or a command names."""
    if type(value) is int and value:
        yield comodel.browse(value)
    elif isinstance(value, dict):
        yield from _named(comodel, value.get("id"))
        yield from _referred(comodel, value)
    elif isinstance(value, list | tuple):
        for part in value[1:]:
            yield from _named(comodel, [0, *part] if isinstance(part, list | tuple) else part)
