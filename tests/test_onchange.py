from odoo.exceptions import AccessError, UserError

from .rights import has_table
from .test_companies import CompaniesCommon

#: What a foreign record is called by, or by what belongs to it.
SECRET = "zz-foreign"
#: What all users read, or has no name of anybody.
OPEN = {"res.users", "llm.publisher", "mail.activity.type", "llm.generation.runner"}


class TestOnchange(CompaniesCommon):
    """The values of a form are its caller's: it is told nothing of what the caller may not read."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        env, secret = cls.env, {"name": SECRET}
        company = env["res.company"].create({**secret})
        provider = env["llm.provider"].create({
            "service": "fakenative",
            "company_id": company.id,
            **secret,
        })
        model = env["llm.model"].create({"provider_id": provider.id, **secret})
        cls.model = model
        queue = env["llm.generation.queue"]._get_or_create_queue(provider)
        cls.second_user.write({"company_ids": [(4, company.id)], "company_id": company.id})
        thread = env["llm.thread"].create({
            "user_id": cls.second_user.id,
            "provider_id": provider.id,
            "model_id": model.id,
            **secret,
        })
        job = cls._create_job(thread_id=thread.id, user=cls.second_user)
        records = [
            company,
            provider,
            model,
            queue,
            thread,
            job,
            thread.message_post(body=SECRET, subject=SECRET, llm_role="user"),
            env["llm.generation.model.limit"].create({"queue_id": queue.id, "model_id": model.id}),
        ]
        if "llm.fetch.models" in env:
            wizard = env["llm.fetch.models"].create({"provider_id": provider.id})
            line = {"wizard_id": wizard.id, "model_use": "chat", "model_id": model.id, **secret}
            records += [wizard, env["llm.fetch.models.line"].create(line)]
        if "llm.generation.provider.batch" in env:
            place = {"provider_id": provider.id, "model_id": model.id}
            records.append(env["llm.generation.provider.batch"].create({**place, "key": SECRET}))
        # Not each family closes its providers and models to other companies.
        is_open = {one._name: one.with_user(cls.manager).has_access("read") for one in records}
        cls.open = OPEN | {name for name in is_open if is_open[name]}
        cls.foreign = {one._name: one for one in records if not is_open[one._name]}
        if "llm.generation.batch" in env:
            batch = env["llm.generation.batch"].create({"user_id": cls.second_user.id, **secret})
            cls.foreign[batch._name] = batch

    def _forms(self):
        """Return the models of ours that a user makes records of, with that user."""
        return [
            (user, self.env(user=user.id, su=False)[name])
            for user in (self.other, self.manager)
            for name in sorted(self.env.registry)
            if self._is_guarded(self.env[name])
            if self.env[name].with_user(user).has_access("create")
        ]

    def _is_guarded(self, model):
        """Whether it is of ours, or a model of the family that ours guards."""
        bounds = type(self.env["llm.generation.bounds"])
        is_ours = has_table(model._original_module) or issubclass(type(model), bounds)
        return model._name.startswith("llm.") and not model._abstract and is_ours

    def _onchange(self, user, model, values, changed=(), **context):
        """Ask for all that the user may read of a new record with these values."""
        own = {"provider_id": self.native.id, "model_id": self.native_model.id}
        values = {**{name: id_ for name, id_ in own.items() if name in model._fields}, **values}
        for name in context:
            values.pop(name.removeprefix("default_"), None)
        spec = {}
        for name in model.fields_get():
            if name == "display_name":
                continue  # computed with the user's rights: its refusal would hide the rest
            field = model._fields[name]
            spec[name] = {}
            if field.type == "many2one":
                spec[name] = {"fields": {"display_name": {}}}
            elif field.type == "one2many" and name in values:
                lines = self.env(user=user.id, su=False)[field.comodel_name]
                of_lines = {
                    line: {"fields": {"display_name": {}}}
                    if lines._fields[line].type == "many2one"
                    else {}
                    for line in lines.fields_get()
                    if line != "display_name" and not lines._fields[line].type.endswith("2many")
                }
                spec[name] = {"fields": of_lines}
        return self._rpc(
            user, model.browse(), "onchange", values, list(changed), spec, context=context
        )

    def _assert_nothing_told(self, result):
        if not isinstance(result, AccessError):
            self.assertNotIn(SECRET, repr(result))
            self.assertNotIsInstance(result, Exception)

    def _references(self, model):
        """Return the names of the fields that name a record, with a foreign one."""
        for name in model.fields_get():
            field = model._fields[name]
            if field.type == "many2one" and field.comodel_name in self.foreign:
                yield name, self.foreign[field.comodel_name].id

    def test_each_kind_of_reference_is_tried(self):
        kinds = {
            model._fields[name].comodel_name
            for _user, model in self._forms()
            for name in model.fields_get()
            if model._fields[name].type == "many2one"
        }
        of_others = {  # of addons of the family that tell nothing of rights
            kind
            for kind in kinds
            if kind.startswith("llm.") and not has_table(self.env[kind]._original_module)
        }
        self.assertFalse(kinds - self.foreign.keys() - self.open - of_others)

    def test_a_form_without_foreign_records_opens(self):
        models = {model._name for _user, model in self._forms()}
        self.assertLessEqual({"llm.generation.job", "llm.generation.model.limit"}, models)
        others = {"llm.model", "llm.provider", "llm.fetch.models", "llm.fetch.models.line"}
        self.assertTrue(others <= models or not has_table("llm"))
        self.assertIn("llm.thread", models)
        for user, model in self._forms():
            with self.subTest(user=user.login, model=model._name):
                self.assertIn("value", self._onchange(user, model, {}))

    def test_no_value_tells_of_a_foreign_record(self):
        for user, model in self._forms():
            for name, id_ in self._references(model):
                for value in (id_, {"id": id_}):
                    for changed in ([name], []):
                        with self.subTest(
                            user=user.login, model=model._name, value={name: value}, all=not changed
                        ):
                            result = self._onchange(user, model, {name: value}, changed)
                            self._assert_nothing_told(result)

    def test_no_default_of_the_context_tells_of_a_foreign_record(self):
        for user, model in self._forms():
            for name, id_ in self._references(model):
                with self.subTest(user=user.login, model=model._name, field=name):
                    result = self._onchange(user, model, {}, **{f"default_{name}": id_})
                    self._assert_nothing_told(result)

    def test_no_line_tells_of_a_foreign_record(self):
        tried = 0
        for user, model in self._forms():
            for name in model.fields_get():
                field = model._fields[name]
                if field.type != "one2many" or not field.comodel_name.startswith("llm."):
                    continue
                lines = model.env[field.comodel_name]
                commands = [[0, "virtual_1", {key: id_}] for key, id_ in self._references(lines)]
                if line := self.foreign.get(lines._name):
                    commands += [[4, line.id], [1, line.id, {}], [6, 0, line.ids]]
                for command in commands:
                    tried += 1
                    with self.subTest(user=user.login, model=model._name, line={name: command}):
                        for changed in ([name], []):
                            result = self._onchange(user, model, {name: [command]}, changed)
                            self._assert_nothing_told(result)
        self.assertGreater(tried, 10)

    def test_the_title_of_a_colleagues_conversation_is_not_told(self):
        self.thread.sudo().name = SECRET
        jobs = self.env["llm.generation.job"].with_user(self.other)
        for changed in (["thread_id"], []):
            result = self._onchange(self.other, jobs, {"thread_id": self.thread.id}, changed)
            self.assertIsInstance(result, AccessError)

    def test_a_limit_of_a_foreign_model_is_refused(self):
        provider, model = self._create_provider("Own", "fakenative")
        queue = self.env["llm.generation.queue"]._get_or_create_queue(provider)
        limits = self.env["llm.generation.model.limit"]
        foreign = self.model.id
        limit = limits.create({"queue_id": queue.id, "model_id": model.id})
        for records, method, values in (
            (limits, "create", {"queue_id": queue.id, "model_id": foreign}),
            (limit, "write", {"model_id": foreign}),
        ):
            quiet = {"tracking_disable": True}  # the log names the model, and would be refused
            result = self._rpc(self.manager, records, method, values, context=quiet)
            with self.subTest(method=method):
                self.assertIsInstance(result, UserError)
                self.assertNotIn(SECRET, str(result))
