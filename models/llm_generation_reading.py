from odoo import api, models
from odoo.tools import ormcache

from ..runner.statements import queueing as sql

#: What a provider's code reads of a job and its surroundings, and how a statement calls them.
READ_MODELS = {
    "llm.generation.job": "j",
    "llm.thread": "t",
    "llm.model": "m",
    "llm.provider": "p",
}


class LlmGenerationReading(models.AbstractModel):
    """Fills the cache with jobs and their surroundings by statements whose text is made once.

    The ORM makes it anew each time, which takes longer than PostgreSQL does: between a call's end
    and the next one's begin that is time in which a slot is empty.
    """

    _name = "llm.generation.reading"
    _description = "LLM Generation Reading"
    _inherit = ["llm.generation.engine"]

    @api.model
    def _read_surroundings(self, ids):
        """Read jobs with their threads, models and providers."""
        statement, columns = self._surroundings_statement()
        rows = self._select(statement, [ids])
        if not rows:
            return
        end = len(READ_MODELS)
        for place, model in enumerate(READ_MODELS):
            count = len(columns[model])
            self._remember(model, {row[place]: row[end : end + count] for row in rows})
            end += count

    @api.model
    def _remember(self, model, values):
        """Put rows into the cache, where it has no values yet.

        :param dict values: `{id: values of _plain_columns()}`
        """
        records = self.env[model].browse(values)
        columns = zip(*values.values(), strict=True)
        for name, column in zip(self._plain_columns(model), columns, strict=False):
            records._fields[name]._insert_cache(records, column)

    @api.model
    @ormcache()
    def _surroundings_statement(self):
        columns = {model: self._plain_columns(model) for model in READ_MODELS}
        names = (f'{READ_MODELS[model]}."{name}"' for model in columns for name in columns[model])
        return sql.READ_SURROUNDINGS.format(columns=", ".join(names)), columns

    @api.model
    @ormcache()
    def _fence_statements(self):
        """Return the statements that lock jobs: those that are free, and all."""
        names = ", ".join(f'j."{name}"' for name in self._plain_columns("llm.generation.job"))
        return sql.FENCE_FREE.format(columns=names), sql.FENCE.format(columns=names)

    @api.model
    @ormcache("model")
    def _plain_columns(self, model):
        """Return the columns that are in the cache as they are in the table, for any owner."""
        contextual, fields_ = self.pool.field_depends_context, self.env[model]._fields
        return [
            name
            for name in self._columns(model)
            if name != "id"
            and not fields_[name].translate  # a column of all languages
            and fields_[name] not in contextual
            and (model == "llm.generation.job" or not fields_[name].groups)
        ]

    @api.model
    @ormcache("model")
    def _columns(self, model):
        fields_ = self.env[model]._fields.items()
        return [name for name, field in fields_ if field.store and field.column_type]
