"""A database as the public addon for Odoo 18.0 left it: its tables, and what Odoo knows of them."""

#: Types of columns by model: what the fields of 18.0 that were stored need. `create_uid` and its
#: like are there, too.
COLUMNS = {
    "llm_generation_queue": {
        "model_id": "integer NOT NULL REFERENCES llm_model ON DELETE CASCADE",
        "display_name": "varchar",
        "enabled": "boolean",
        "max_concurrent_jobs": "integer",
        "auto_retry_failed": "boolean",
        "retry_delay_minutes": "integer",
        "last_processed_at": "timestamp",
    },
    "llm_generation_job": {
        "name": "varchar",
        "display_name": "varchar",
        "thread_id": "integer NOT NULL REFERENCES llm_thread ON DELETE CASCADE",
        "provider_id": "integer NOT NULL REFERENCES llm_provider",
        "model_id": "integer NOT NULL REFERENCES llm_model",
        "state": "varchar NOT NULL",
        "input_message_id": "integer REFERENCES mail_message ON DELETE SET NULL",
        "output_message_id": "integer REFERENCES mail_message ON DELETE SET NULL",
        "external_job_id": "varchar",
        "provider_data": "jsonb",
        "generation_inputs": "jsonb",
        "result_payload": "jsonb",
        "queued_at": "timestamp",
        "started_at": "timestamp",
        "completed_at": "timestamp",
        "duration": "double precision",
        "queue_duration": "double precision",
        "error_message": "text",
        "retry_count": "integer",
        "max_retries": "integer",
        "user_id": "integer NOT NULL REFERENCES res_users",
        "company_id": "integer NOT NULL REFERENCES res_company",
    },
}
_LOG = "create_uid integer, create_date timestamp, write_uid integer, write_date timestamp"
_TYPES = {"integer": "many2one", "varchar": "char", "jsonb": "json", "timestamp": "datetime"}
_COMODELS = {
    "thread_id": "llm.thread",
    "provider_id": "llm.provider",
    "model_id": "llm.model",
    "user_id": "res.users",
    "company_id": "res.company",
}
MODULE = "llm_generate_job"


def statements():
    """Yield the statements that make a database with the family one that has the old addon."""
    yield from _module()
    for table, columns in COLUMNS.items():
        lines = ", ".join(f"{name} {kind}" for name, kind in columns.items())
        yield f"CREATE TABLE {table} (id serial PRIMARY KEY, {lines}, {_LOG})"
        yield from reflections(table, columns)
    yield from _records()


def _module():
    yield f"""
        UPDATE ir_module_module SET state = 'installed', latest_version = '18.0.1.0.0'
        WHERE name = '{MODULE}'
    """


def reflections(table, columns):
    """What Odoo notes of models and fields, with their names: it removes those that are gone."""
    model = table.replace("_", ".")
    yield from _model(table, model)
    for name, kind in columns.items():
        yield from field(table, model, name, kind)


def _model(table, model):
    yield f"""
        INSERT INTO ir_model (model, name, state, "order", transient)
        VALUES ('{model}', '{{"en_US": "{model}"}}', 'base', 'id', FALSE)
    """
    yield data(f"model_{table}", "ir.model", f"(SELECT id FROM ir_model WHERE model = '{model}')")


def field(table, model, name, kind, relation=None):
    """Yield the statements by which Odoo knows a field of the addon."""
    kind = kind.split()[0]
    ttype = {"retry_count": "integer", "max_retries": "integer"}.get(
        name, _TYPES.get(kind, {"double": "float"}.get(kind, kind))
    )
    relation = relation or _COMODELS.get(
        name, "mail.message" if name.endswith("message_id") else None
    )
    if ttype == "many2one" and not relation:
        ttype = "integer"
    yield f"""
        INSERT INTO ir_model_fields (model, model_id, name, ttype, relation, store, state,
            field_description, copied, readonly, required, index)
        SELECT model, id, '{name}', '{ttype}', {f"'{relation}'" if relation else "NULL"}, TRUE,
            'base', '{{"en_US": "{name}"}}', TRUE, FALSE, FALSE, FALSE
        FROM ir_model WHERE model = '{model}'
    """
    yield data(
        f"field_{table}__{name}",
        "ir.model.fields",
        f"(SELECT id FROM ir_model_fields WHERE model = '{model}' AND name = '{name}')",
    )


def _records():
    """Yield a scheduled action that is not to be updated, and a view of fields that are gone."""
    yield f"""
        WITH action AS (
            INSERT INTO ir_act_server (name, model_id, state, code, type, usage,
                binding_type)
            SELECT '{{"en_US": "Old: retry"}}', id, 'code', 'model._process_model_queue(1)',
                'ir.actions.server', 'ir_cron', 'action'
            FROM ir_model WHERE model = 'llm.generation.queue' RETURNING id),
        cron AS (
            INSERT INTO ir_cron (ir_actions_server_id, user_id, active, interval_number,
                interval_type, nextcall, priority, cron_name)
            SELECT id, 1, TRUE, 5, 'minutes', now() + interval '1 day', 5, 'Old: retry'
            FROM action RETURNING id)
        INSERT INTO ir_model_data (module, name, model, res_id, noupdate)
        SELECT '{MODULE}', 'ir_cron_old_retry', 'ir.cron', id, TRUE FROM cron
    """
    yield f"""
        WITH view AS (
            INSERT INTO ir_ui_view (name, model, type, arch_db, active, mode, priority)
            VALUES ('old.queue.list', 'llm.generation.queue', 'list',
                '{{"en_US": "<list><field name=\\"model_id\\"/></list>"}}', TRUE, 'primary', 16)
            RETURNING id)
        INSERT INTO ir_model_data (module, name, model, res_id, noupdate)
        SELECT '{MODULE}', 'view_llm_generation_queue_tree', 'ir.ui.view', id, FALSE FROM view
    """


def data(name, model, res_id, noupdate="FALSE"):
    """Return the statement that gives a record its name in the addon."""
    return f"""
        INSERT INTO ir_model_data (module, name, model, res_id, noupdate)
        VALUES ('{MODULE}', '{name}', '{model}', {res_id}, {noupdate})
    """
