import json

from odoo import api, models
from odoo.exceptions import UserError

from ..const import LAST_ID
from ..protocol.sanitize import can_be_stored

#: Most that anybody has kept in a field, by its type: characters, of JSON as it is written.
#: A name is a line; a text or a value of JSON is what a model reads; files are attachments.
BOUNDS = {"char": 1000, "text": 1_000_000, "html": 1_000_000, "json": 1_000_000}
#: Characters of an `identity_key`: it stands in an index.
KEY_BOUND = 256
#: The least and the largest number, where a model says no other ones.
INTEGER_RANGE = (-LAST_ID, LAST_ID)
INTEGERS = ("integer", "many2one", "many2one_reference")


class LlmGenerationBounds(models.AbstractModel):
    """What nobody has kept: the values that are too large, or that PostgreSQL cannot hold.

    They are refused when they are created or written, whoever does it and by whatever way.
    A form, which keeps nothing, is told nothing of records that its user may not read: Odoo
    computes stored fields as superuser there, too, and shows the name of whatever is a value.
    """

    _name = "llm.generation.bounds"
    _description = "LLM Generation Bounds"

    @api.model_create_multi
    def create(self, vals_list):
        # A default of the context, or one that a user has chosen, is a value as any other.
        self._refuse_unbounded([_defaults(self), *vals_list])
        return super().create(self._complete_values(vals_list))

    @api.model
    def _complete_values(self, vals_list):
        """Return the values of new records with what follows from them; all are within bounds."""
        return vals_list

    def write(self, vals):
        self._refuse_unbounded([vals])
        return super().write(vals)

    def onchange(self, values, field_names, fields_spec):
        if not self.env.su:
            for record in _referred(self, values):
                record.check_access("read")
        return super().onchange(values, field_names, fields_spec)

    @api.model
    def _refuse_unbounded(self, vals_list):
        """Refuse values that are too large or cannot be stored.

        :raise UserError: with the field and its bound
        """
        ranges = self._number_ranges()
        for vals in vals_list:
            for name in vals.keys() & self._fields.keys():
                field, value = self._fields[name], vals[name]
                if field.type in BOUNDS and value:
                    self._refuse_unstorable(field, value)
                    self._refuse_long(field, value)
                elif field.type in INTEGERS:
                    self._refuse_out_of_range(field, value, *ranges.get(name, INTEGER_RANGE))

    @api.model
    def _number_ranges(self):
        """Return the least and the largest of each number that has bounds of its own, by field."""
        return {}

    def _refuse_out_of_range(self, field, value, least, most):
        try:
            is_within = least <= int(value or 0) <= most
        except (ValueError, OverflowError):
            is_within = False
        except TypeError:
            is_within = field.type != "integer"  # records and the like are Odoo's
        if not is_within:
            raise UserError(
                self.env._(
                    "%(field)s is a whole number from %(least)s to %(most)s.",
                    field=field._description_string(self.env),
                    least=least,
                    most=most,
                )
            )

    def _refuse_unstorable(self, field, value):
        if not can_be_stored(value):
            raise UserError(
                self.env._(
                    "%s cannot be kept: it is nested too deeply, or has a number or a"
                    " character that JSON does not allow.",
                    field._description_string(self.env),
                )
            )

    def _refuse_long(self, field, value):
        bound = KEY_BOUND if field.name == "identity_key" else BOUNDS[field.type]
        # What is none of JSON is refused by the ORM.
        text = json.dumps(value, default=str) if field.type == "json" else str(value)
        if len(text) > bound:
            raise UserError(
                self.env._(
                    "%(field)s is longer than %(bound)s characters; make it shorter, or attach"
                    " a file.",
                    field=field._description_string(self.env),
                    bound=bound,
                )
            )


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
