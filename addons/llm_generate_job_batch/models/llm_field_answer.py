"""What an answer has to be for a field, and what is written for it."""

import ast
import copy
from datetime import UTC, date, datetime

import pytz

from odoo import Command, fields, models
from odoo.exceptions import UserError
from odoo.fields import Domain
from odoo.tools.safe_eval import safe_eval

from odoo.addons.llm_generate_job.protocol.sanitize import sanitize_text
from odoo.addons.llm_generate_job.protocol.schema import validator

from .llm_generation_data import read_json

#: Types of fields that hold an answer as it is; all others hold data.
TEXT_TYPES = ("char", "text", "html")
RELATIONAL_TYPES = ("many2one", "many2many")
FIELD_TYPES = (
    *TEXT_TYPES,
    *("integer", "float", "monetary", "date", "datetime", "boolean", "selection"),
    *RELATIONAL_TYPES,
)
#: Records up to which a model is told all names that it may choose from, and names that it is
#: told where it has chosen none of them.
MOST_NAMES, NEAR_NAMES = 50, 5
#: What each type is in JSON. A number beyond would lose digits.
JSON_TYPES = {
    "char": {"type": "string"},
    "integer": {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1},
    "float": {"type": "number", "minimum": -1e15, "maximum": 1e15},
    "monetary": {"type": "number", "minimum": -1e15, "maximum": 1e15},
    "date": {"type": "string", "format": "date"},
    "datetime": {"type": "string", "format": "date-time"},
    "boolean": {"type": "boolean"},
    "many2one": {"type": "string"},
    "many2many": {"type": "array", "items": {"type": "string"}, "maxItems": 100},
}


class IrActionsServer(models.Model):
    """Has an answer be what a field can hold."""

    _inherit = "ir.actions.server"  # pylint: disable=consider-merging-classes-inherited

    llm_domain = fields.Char(
        "Choose From",
        default="[]",
        help="The records whose names the answer may give, of those that the user may read.",
    )
    llm_field_relation = fields.Char(related="llm_field_id.relation", string="Model of the Field")

    def _llm_field(self, record):
        return record._fields[self.llm_field_id.name]

    def _holds_text(self, record):
        """Return whether the answer is written as it came."""
        field = self._llm_field(record)
        return field.type in TEXT_TYPES and not getattr(field, "size", None)

    def _get_warning_messages(self):
        warnings = super()._get_warning_messages()
        if self.state == "llm_generate" and self.llm_field_id.ttype in RELATIONAL_TYPES:
            try:
                self._chosen_domain()
            except UserError as error:
                warnings.append(str(error))
        # sudo: what an action can do follows from its model, whoever looks at it.
        model, records = self.llm_model_id.sudo(), self.env.get(self.model_name)
        is_field = records is not None and self.llm_field_id.name in records._fields
        if self.state == "llm_generate" and model and is_field:
            warnings += filter(None, [self._why_no_data(records, model)])
        return warnings

    # === WHAT IT HAS TO BE === #

    def _needs_data(self, record):
        return self.llm_target == "field" and not self._holds_text(record)

    def _why_no_data(self, records, model):
        """Return why a model cannot give the data that the field needs, an empty text if it can."""
        if not (self._needs_data(records) and self._llm_posts(model)):
            return ""
        return self.env._(
            "%(model)s cannot answer with data, which “%(field)s” needs. Choose another model, or a"
            " text field.",
            model=model.name,
            field=self._llm_field(records)._description_string(self.env),
        )

    def _told_schema(self, records, model):
        """Return the JSON Schema that a model is told for some records; None for a text.

        It says what the answer is measured by: in the language and the companies of the job's
        owner, whatever those of the page are on which the action is run.

        :param list records: as who runs the action
        :raise UserError: where the model gives no data, or it is not known what may be chosen for
            one of them
        """
        if why := self._why_no_data(records[0], model):
            raise UserError(why)
        if not self._needs_data(records[0]):
            return None
        if self._llm_field(records[0]).type in RELATIONAL_TYPES:
            for record in records:
                self._choices(record)
        Job = records[0].env["llm.generation.job"]
        company = Job._company_of(Job.env.user, model.provider_id)
        like = Job.new({"user_id": Job.env.uid, "company_id": company.id})
        record = records[0].with_context(**like._owner_context())
        return self._llm_schema(record.with_company(self._llm_company(record)))

    def _llm_schema(self, record, *, with_names=True):
        """Return the JSON Schema of an answer that is written to the field; None for a text.

        :param record: any of the records, as they have the same field, as who runs the action
        :param bool with_names: whether it tells the names that may be chosen, where they are few
        """
        if not self._needs_data(record):
            return None
        field = self._llm_field(record)
        value = {
            **copy.deepcopy(JSON_TYPES.get(field.type, {})),
            "description": field._description_string(record.env),
        }
        if field.type == "char":
            value["maxLength"] = field.size
        elif field.type == "selection":
            pairs = field._description_selection(record.env)
            value["enum"] = [key for key, _label in pairs]
            value["description"] += ": " + "; ".join(f"{key} = {label}" for key, label in pairs)
        elif with_names and (names := self._few_names(record)):
            (value["items"] if field.type == "many2many" else value)["enum"] = names
        if not field.required and field.type not in {"boolean", "many2many"}:
            # What cannot be told is left as it is.
            value["description"] += " (null where it cannot be told)"
            if "type" in value:
                value["type"] = [value["type"], "null"]
            if "enum" in value:
                value["enum"] = [*value["enum"], None]
        return {
            "type": "object",
            "properties": {"value": value},
            "required": ["value"],
            "additionalProperties": False,
        }

    def _few_names(self, record):
        """Return the names that may be chosen for any of the records, None where they are many."""
        field = self._llm_field(record)
        if field.type not in RELATIONAL_TYPES or self._names_in(field) or field.check_company:
            return None
        found = record.env[field.comodel_name].search(self._choices(record), limit=MOST_NAMES + 1)
        return sorted(set(found.mapped("display_name"))) if len(found) <= MOST_NAMES else None

    def _names_in(self, field):
        """Return the names that a domain of a field refers to: it differs by record."""
        if not isinstance(field.domain, str):
            return {"record"} if callable(field.domain) else set()
        tree = ast.walk(ast.parse(field.domain.strip(), mode="eval"))
        return {node.id for node in tree if isinstance(node, ast.Name)}

    def _chosen_domain(self):
        """Return the domain of what the action allows.

        :raise UserError: for what is none, or none of the records that may be chosen
        """
        try:
            domain = Domain(ast.literal_eval(self.llm_domain or "[]"))
            domain.validate(self.env[self.llm_field_id.relation])
        except (ValueError, SyntaxError, TypeError, NotImplementedError):
            raise UserError(
                self.env._("What the answer may choose from is no domain: %s", self.llm_domain)
            ) from None
        return domain

    def _choices(self, record):
        """Return the domain of what may be chosen for a record.

        :raise UserError: where only the form of the record knows it, or the action has no domain
        """
        field = self._llm_field(record)
        domain = field.domain(record) if callable(field.domain) else field.domain
        if isinstance(domain, str):
            names = self._names_in(field) & record._fields.keys()
            values = {name: _plain(record[name]) for name in names}
            try:
                domain = safe_eval(domain, {**values, "uid": record.env.uid})
            except Exception:  # noqa: BLE001 whatever it is
                raise UserError(
                    self.env._(
                        "What may be chosen for “%s” is known to its form only. Choose another"
                        " field.",
                        field._description_string(record.env),
                    )
                ) from None
        domain = Domain(domain or Domain.TRUE) & self._chosen_domain()
        if field.check_company and "company_id" in record._fields:
            comodel = record.env[field.comodel_name]
            domain &= Domain(comodel._check_company_domain(record.company_id or record.env.company))
        return domain

    # === WHAT IS WRITTEN === #

    def _check_llm_answer(self, job, text):
        """Refuse an answer that cannot be written.

        :param job: in the environment of its owner
        :raise ValueError: with a sentence that has its path
        """
        record = self._llm_record(job)
        if record and self._needs_data(record):
            self._llm_value(record, text)

    def _llm_value(self, record, text):
        """Return what is written to the field for an answer, None where nothing is.

        :param record: as the owner of the job
        :param str text: the answer
        :raise ValueError: for what the field cannot hold, with a sentence that has its path
        """
        field = self._llm_field(record)
        data = read_json(text)
        # The names of now may be others than the model was told: they are looked for.
        schema = self._llm_schema(record, with_names=False)
        if errors := validator(schema, "answer", "output_schema")(data):
            raise ValueError(errors[0])
        value = data["value"]
        if value is None:
            return None
        try:
            read = getattr(self, f"_llm_read_{field.type}", None)
            return read(record, value) if read else value
        except (ValueError, OverflowError) as error:
            raise ValueError(f"answer.value: {error}") from None

    def _llm_read_char(self, _record, value):
        return sanitize_text(value)

    def _llm_read_integer(self, _record, value):
        return int(value)

    def _llm_read_date(self, _record, value):
        return date.fromisoformat(value)

    def _llm_read_datetime(self, record, value):
        """Return the moment in UTC; one without a zone is in that of who runs the action."""
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            moment = pytz.timezone(record.env.user.tz or "UTC").localize(moment)
        return moment.astimezone(UTC).replace(tzinfo=None, microsecond=0)

    def _llm_read_many2one(self, record, value):
        return self._named(record, value).id

    def _llm_read_many2many(self, record, value):
        return [Command.set([self._named(record, name).id for name in value])]

    def _named(self, record, name):
        """Return the only record of a name, of those that may be chosen and read."""
        wanted, like_it = name.strip().casefold(), ()
        for near in self._near(record, name.strip()) if wanted else ():
            shown_so = near.filtered(lambda one: one.display_name.strip().casefold() == wanted)
            found = shown_so or near.filtered(lambda one: wanted in _names_of(one))
            if len(found) > 1:
                raise ValueError(f"several are called {name!r}")
            if found:
                return found
            like_it = near or like_it
        shown = ", ".join(repr(one.display_name) for one in like_it[:NEAR_NAMES])
        raise ValueError(f"none is called {name!r}{shown and f'; there are {shown}'}")

    def _near(self, record, name):
        """Yield the records that may be meant by a name: all where they are few, else by searches.

        Not each model finds its records by what they are shown as, which is what models are told.
        """
        comodel = record.env[self._llm_field(record).comodel_name]
        domain = self._choices(record)
        few = comodel.search(domain, limit=MOST_NAMES + 1)
        if len(few) <= MOST_NAMES:
            yield few
            return
        last = name.rpartition("/")[2].strip()  # the own name of what shows its parents', too
        for words, operator in ((name, "="), (name, "ilike"), (last, "=")):
            pairs = comodel.name_search(words, domain, operator, limit=100) if words else ()
            yield comodel.browse(one for one, _shown in pairs)


def _names_of(record):
    """Return what a record is called, as shown and by itself, to be compared."""
    names = (record.display_name, record._rec_name and record[record._rec_name])
    return {name.strip().casefold() for name in names if isinstance(name, str)}


def _plain(value):
    """Return the value of a field as a domain in a view has it."""
    if not isinstance(value, models.BaseModel):
        return value
    return value.id if len(value) == 1 else value.ids
