"""A database as the public addon for 18.0 or 19.0 left it: its tables, and what Odoo knows of them.

Their tables are alike but for `result_payload`, which some of 18.0 had.
"""

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
VERSIONS = ("18.0.1.0.0", "19.0.1.0.0")
#: Fields without a column that came with mail.thread and mail.activity.mixin.
MAIL_FIELDS = {"activity_ids": "mail.activity", "message_ids": "mail.message"}
#: name of a scheduled action: (model, code)
CRONS = {
    "cron_process_generation_queues": ("llm.generation.queue", "model._process_all_queues()"),
    "cron_check_job_statuses": ("llm.generation.queue", "model._check_job_statuses()"),
    "cron_auto_retry_failed_jobs": ("llm.generation.queue", "model._process_model_queue(1)"),
    "cron_cleanup_old_jobs": ("llm.generation.job", "model.cleanup_old_jobs(days=7)"),
}
#: name of a view: (model, type, source)
VIEWS = {
    "view_llm_generation_queue_tree": (
        "llm.generation.queue", "list", '<list><field name="model_id"/></list>',
    ),
    "view_llm_generation_job_form": (
        "llm.generation.job", "form",
        '<form><field name="thread_id"/><field name="activity_ids"/><chatter/></form>',
    ),
}  # fmt: skip
#: What a user made of the form.
INHERITED = '<field name="thread_id" position="after"><field name="message_ids"/></field>'
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


def statements(version):
    """Yield the statements that make a database with the family one that has the public addon."""
    yield f"""
        UPDATE ir_module_module SET state = 'installed', latest_version = '{version}'
        WHERE name = '{MODULE}'
    """
    for table, columns in COLUMNS.items():
        if version.startswith("19.0"):
            columns = {name: kind for name, kind in columns.items() if name != "result_payload"}
        lines = ", ".join(f"{name} {kind}" for name, kind in columns.items())
        yield f"CREATE TABLE {table} (id serial PRIMARY KEY, {lines}, {_LOG})"
        yield from reflections(table, columns)
    yield "ALTER TABLE llm_thread ADD COLUMN is_generating boolean"
    yield from field("llm_thread", "llm.thread", "is_generating", "boolean")
    yield from _mail()
    yield from _records("TRUE" if version.startswith("18.0") else "FALSE")


def _mail():
    """Yield what makes the jobs of Odoo's knowledge ones with messages and activities."""
    job = "(SELECT id FROM ir_model WHERE model = 'llm.generation.job')"
    for name, relation in MAIL_FIELDS.items():
        yield from field("llm_generation_job", "llm.generation.job", name, "one2many", relation)
    yield f"UPDATE ir_model SET is_mail_thread = TRUE, is_mail_activity = TRUE WHERE id = {job}"
    for parent in ("mail.thread", "mail.activity.mixin"):
        yield f"""
            INSERT INTO ir_model_inherit (model_id, parent_id)
            SELECT {job}, id FROM ir_model WHERE model = '{parent}'
        """
        yield data(
            f"model_inherit__llm_generation_job__{parent.replace('.', '_')}",
            "ir.model.inherit",
            f"""(SELECT i.id FROM ir_model_inherit i JOIN ir_model p ON p.id = i.parent_id
                WHERE i.model_id = {job} AND p.model = '{parent}')""",
        )


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


def _records(noupdate):
    """Yield scheduled actions, views, a menu with its action, and rights, as the addon has them.

    :param str noupdate: whether its scheduled actions are not to be updated
    """
    for name, (model, code) in CRONS.items():
        yield f"""
            WITH action AS (
                INSERT INTO ir_act_server (name, model_id, state, code, type, usage,
                    binding_type)
                SELECT '{{"en_US": "{name}"}}', id, 'code', '{code}', 'ir.actions.server',
                    'ir_cron', 'action'
                FROM ir_model WHERE model = '{model}' RETURNING id)
            INSERT INTO ir_cron (ir_actions_server_id, user_id, active, interval_number,
                interval_type, nextcall, priority, cron_name)
            SELECT id, 1, TRUE, 5, 'minutes', now() + interval '1 day', 5, '{name}' FROM action
        """
        found = f"(SELECT id FROM ir_cron WHERE cron_name = '{name}')"
        yield data(name, "ir.cron", found, noupdate)
    for name, (model, kind, source) in VIEWS.items():
        yield _view(name, model, kind, source)
        yield data(name, "ir.ui.view", f"(SELECT id FROM ir_ui_view WHERE name = '{name}')")
    parent = "(SELECT id FROM ir_ui_view WHERE name = 'view_llm_generation_job_form')"
    yield _view("made_by_a_user", "llm.generation.job", "form", INHERITED, parent)
    yield """
        INSERT INTO ir_act_window (name, type, res_model, view_mode, binding_type, "limit",
            target, context, domain)
        VALUES ('{"en_US": "Old queues"}', 'ir.actions.act_window', 'llm.generation.queue',
            'kanban,list,form', 'action', 80, 'current', '{}', '[]')
    """
    action = "(SELECT id FROM ir_act_window WHERE name->>'en_US' = 'Old queues')"
    yield data("action_llm_generation_queue", "ir.actions.act_window", action)
    yield f"""
        INSERT INTO ir_ui_menu (name, active, sequence, action)
        VALUES ('{{"en_US": "Old queues"}}', TRUE, 20, 'ir.actions.act_window,' || {action})
    """
    menu = "(SELECT id FROM ir_ui_menu WHERE name->>'en_US' = 'Old queues')"
    yield data("menu_llm_generation_queue", "ir.ui.menu", menu)
    for model in ("job", "queue"):
        name = f"access_llm_generation_{model}_user"
        yield f"""
            INSERT INTO ir_model_access (name, active, model_id, group_id, perm_read, perm_write,
                perm_create, perm_unlink)
            SELECT '{name}', TRUE, id, (
                    SELECT res_id FROM ir_model_data WHERE module = 'base' AND name = 'group_user'),
                TRUE, TRUE, TRUE, TRUE
            FROM ir_model WHERE model = 'llm.generation.{model}'
        """
        found = f"(SELECT id FROM ir_model_access WHERE name = '{name}')"
        yield data(name, "ir.model.access", found)


def _view(name, model, kind, source, parent="NULL"):
    mode = "primary" if parent == "NULL" else "extension"
    source = source.replace('"', '\\"')
    return f"""
        INSERT INTO ir_ui_view (name, model, type, arch_db, active, mode, priority, inherit_id)
        VALUES ('{name}', '{model}', '{kind}', '{{"en_US": "{source}"}}', TRUE, '{mode}', 16,
            {parent})
    """


def data(name, model, res_id, noupdate="FALSE"):
    """Return the statement that gives a record its name in the addon."""
    return f"""
        INSERT INTO ir_model_data (module, name, model, res_id, noupdate)
        VALUES ('{MODULE}', '{name}', '{model}', {res_id}, {noupdate})
    """
