import json
import logging

from jsonschema.exceptions import SchemaError
from psycopg2 import OperationalError
from referencing.exceptions import Unresolvable

from odoo import SUPERUSER_ID, api, fields, models
from odoo.exceptions import UserError, ValidationError
from odoo.tools.json import json_default

from .. import record_reader, server_action_runner
from ..const import EMPTY_SCHEMA, MAX_RESULT_SIZE, READ_SCHEMA, SEARCH_SCHEMA, TOOL_NAME
from ..schema import best_error, check_schema

_logger = logging.getLogger(__name__)


class LlmTool(models.Model):
    """A function that a language model may call, run with the rights of the current user.

    An addon that brings an implementation adds its code to ``_get_available_implementations``
    and defines ``<implementation>_execute(parameters)``, and ``<implementation>_input_schema()``
    where it takes parameters.
    """

    _name = "llm.tool"
    _description = "LLM Tool"
    _order = "name, id"

    name = fields.Char(
        required=True, help="Name of the function: letters, digits, underscores and dashes."
    )
    description = fields.Text(
        required=True, help="Tells the model what the tool does and when to use it."
    )
    active = fields.Boolean(default=True)
    implementation = fields.Selection(selection="_selection_implementation", required=True)
    server_action_ids = fields.Many2many(
        "ir.actions.server",
        string="Allowed Server Actions",
        help="The tool runs these actions and no other, as far as the user may run them.",
    )
    input_schema = fields.Json(
        compute="_compute_input_schema",
        store=True,
        readonly=False,
        help="JSON Schema of the parameters.",
    )
    input_schema_text = fields.Text(
        string="Input Schema (JSON)",
        compute="_compute_input_schema_text",
        inverse="_inverse_input_schema_text",
    )

    _name_uniq = models.Constraint("UNIQUE(name)", "A tool of this name exists. Choose another.")

    @api.depends("implementation", "server_action_ids.name", "server_action_ids.model_name")
    def _compute_input_schema(self):
        for tool in self:
            schema = getattr(tool, f"{tool.implementation}_input_schema", None)
            tool.input_schema = schema() if schema else EMPTY_SCHEMA

    @api.depends("input_schema")
    def _compute_input_schema_text(self):
        for tool in self:
            tool.input_schema_text = json.dumps(
                tool.input_schema or {}, indent=2, ensure_ascii=False
            )

    def _inverse_input_schema_text(self):
        for tool in self:
            try:
                tool.input_schema = json.loads(tool.input_schema_text or "{}")
            except ValueError as error:
                raise ValidationError(
                    self.env._(
                        "The input schema of tool “%(tool)s” is not valid JSON: %(reason)s.",
                        tool=tool.name,
                        reason=error,
                    )
                ) from error

    @api.model
    def _selection_implementation(self):
        return self._get_available_implementations()

    @api.model
    def _get_available_implementations(self):
        """Return the ``(code, label)`` of each implementation; an addon appends its own."""
        return [
            ("search_records", self.env._("Search Records")),
            ("read_records", self.env._("Read Records")),
            ("server_action", self.env._("Server Action")),
        ]

    @api.constrains("name")
    def _check_name(self):
        for tool in self:
            if not TOOL_NAME.fullmatch(tool.name):
                raise ValidationError(
                    self.env._(
                        "“%(name)s” cannot be the name of a tool. Use up to 64 letters, digits,"
                        " underscores and dashes, and begin with a letter.",
                        name=tool.name,
                    )
                )

    @api.constrains("input_schema")
    def _check_input_schema(self):
        for tool in self:
            schema = tool.input_schema
            try:
                check_schema(schema)
            except SchemaError as error:
                raise ValidationError(
                    self.env._(
                        "The input schema of tool “%(tool)s” is not a JSON Schema: %(reason)s.",
                        tool=tool.name,
                        reason=error.message,
                    )
                ) from error
            if not isinstance(schema, dict) or schema.get("type") != "object":
                raise ValidationError(
                    self.env._(
                        "The input schema of tool “%(tool)s” must be an object schema: it begins"
                        ' with {"type": "object"}.',
                        tool=tool.name,
                    )
                )

    def copy_data(self, default=None):
        vals_list = super().copy_data(default)
        if "name" in (default or {}):
            return vals_list
        return [{**vals, "name": f"{vals['name'][:58]}_copy"} for vals in vals_list]

    # === BUSINESS METHODS === #

    @api.private
    def execute(self, parameters):
        """Run the tool with the rights of the current user.

        :param dict parameters: must fit the input schema
        :return: plain data, fit for JSON and of bounded size
        :raise UserError: with a sentence that a model or a person can act on
        """
        self.ensure_one()
        if self.env.uid == SUPERUSER_ID:
            raise UserError(
                self.env._(
                    "A tool runs with the rights of a person, not of the system. Run tool"
                    " “%(tool)s” as a user.",
                    tool=self.name,
                )
            )
        tool = self.sudo(False)
        if not tool.active:
            raise UserError(
                self.env._("Tool “%(tool)s” is archived. Use another tool.", tool=tool.name)
            )
        parameters = {} if parameters is None else parameters
        tool._check_parameters(parameters)
        try:
            with self.env.cr.savepoint():
                result = tool._get_implementation()(parameters)
                return tool._get_bounded_result(result)
        except (UserError, OperationalError):  # the latter: Odoo tries the transaction again
            raise
        except Exception as error:
            _logger.info("Tool %s failed with %s", tool.name, type(error).__name__)
            _logger.debug("Failure of tool %s", tool.name, exc_info=True)
            raise UserError(
                self.env._(
                    "Tool “%(tool)s” failed: %(reason)s. Change the parameters, or do without it.",
                    tool=tool.name,
                    reason=error,
                )
            ) from error

    def _get_implementation(self):
        implementation = getattr(self, f"{self.implementation}_execute", None)
        if implementation is None:
            raise UserError(
                self.env._(
                    "Tool “%(tool)s” cannot run: the addon of its implementation"
                    " “%(implementation)s” is not installed.",
                    tool=self.name,
                    implementation=self.implementation,
                )
            )
        return implementation

    def _check_parameters(self, parameters):
        try:
            error = best_error(self.input_schema or EMPTY_SCHEMA, parameters)
        except SchemaError as broken:
            raise UserError(
                self.env._(
                    "Nobody can judge parameters by the input schema of tool “%(tool)s”:"
                    " %(reason)s. A manager can correct it in LLM > Configuration > Tools.",
                    tool=self.name,
                    reason=broken.message,
                )
            ) from broken
        except Unresolvable as unresolvable:
            raise UserError(
                self.env._(
                    "The input schema of tool “%(tool)s” refers to “%(reference)s”, which it does"
                    " not define. An administrator can correct it in LLM > Configuration > Tools.",
                    tool=self.name,
                    reference=unresolvable.ref,
                )
            ) from unresolvable
        if error:
            raise UserError(
                self.env._(
                    "The parameters do not fit tool “%(tool)s”: at %(path)s, %(reason)s. Correct"
                    " them and call it again.",
                    tool=self.name,
                    path=error.json_path,
                    reason=error.message[:500],
                )
            )

    def _get_bounded_result(self, result):
        text = json.dumps(result, default=json_default, ensure_ascii=False)
        if len(text) > MAX_RESULT_SIZE:
            return {"truncated": True, "content": text[:MAX_RESULT_SIZE]}
        return json.loads(text)

    # === IMPLEMENTATIONS === #

    @api.private
    def search_records_input_schema(self):
        return SEARCH_SCHEMA

    @api.private
    def search_records_execute(self, parameters):
        return record_reader.search_records(self.env, **parameters)

    @api.private
    def read_records_input_schema(self):
        return READ_SCHEMA

    @api.private
    def read_records_execute(self, parameters):
        return record_reader.read_records(self.env, **parameters)

    @api.private
    def server_action_input_schema(self):
        actions = self.server_action_ids
        names = "; ".join(f"{action.id}: {action.name} ({action.model_name})" for action in actions)
        return {
            "type": "object",
            "properties": {
                "action_id": {
                    "type": "integer",
                    "enum": actions.ids,
                    "description": f"Id of the action to run. {names}".strip(),
                },
                "record_ids": {
                    "type": "array",
                    "items": {"type": "integer", "minimum": 1},
                    "maxItems": 100,
                    "description": "Ids of the records to run the action on.",
                },
            },
            "required": ["action_id"],
            "additionalProperties": False,
        }

    @api.private
    def server_action_execute(self, parameters):
        # sudo: the allow list is configuration: plain users may not read the action records on it.
        allowed = self.sudo().server_action_ids
        return server_action_runner.run(self.env, allowed, **parameters)
