from odoo.exceptions import AccessError, UserError
from odoo.service.model import call_kw
from odoo.tests import Form

from .common import LlmCommon


class TestLlmProvider(LlmCommon):
    def test_a_call_goes_to_the_method_of_the_service(self):
        self._offer("greet", lambda provider, name, polite=False: (provider, name, polite))

        answer = self.provider._dispatch("greet", "Ada", polite=True)

        self.assertEqual(answer, (self.provider, "Ada", True))

    def test_a_call_goes_to_the_given_record(self):
        model = self._create_model()
        self._offer("greet", lambda record: record, model="llm.model")

        self.assertEqual(self.provider._dispatch("greet", record=model), model)

    def test_a_method_that_the_service_lacks_is_told_in_a_sentence(self):
        with self.assertRaisesRegex(NotImplementedError, "“fake” of provider “Fake provider”"):
            self.provider.chat([])

    def test_chat_hands_its_arguments_to_the_service(self):
        calls = []
        self._offer("chat", lambda provider, *args, **kwargs: calls.append((args, kwargs)))
        model = self._create_model()
        messages = [{"role": "user", "content": "Hello"}]

        self.provider.chat(messages, model=model, stream=True, temperature=0)

        self.assertEqual(
            calls,
            [
                (
                    (messages,),
                    {
                        "model": model,
                        "stream": True,
                        "tools": None,
                        "prepend_messages": None,
                        "temperature": 0,
                    },
                )
            ],
        )

    def test_generate_embedding_and_list_models_reach_the_service(self):
        self._offer("generate", lambda provider, data, **kwargs: ({"echo": data}, []))
        self._offer("embedding", lambda provider, texts, model: [[0.5] for _text in texts])
        self._offer("models", lambda provider, model_id: [{"name": model_id or "all"}])

        self.assertEqual(self.provider.generate({"prompt": "x"}), ({"echo": {"prompt": "x"}}, []))
        self.assertEqual(self.provider.embedding(["a", "b"]), [[0.5], [0.5]])
        self.assertEqual(self.provider.list_models(), [{"name": "all"}])
        self.assertEqual(self.provider.list_models("one"), [{"name": "one"}])

    def test_the_default_model_of_the_use_is_taken(self):
        first = self._create_model("a")
        default = self._create_model("b", default=True)
        embedding = self._create_model("c", model_use="embedding")

        self.assertEqual(self.provider.get_model(), default)
        self.assertEqual(self.provider.get_model(model_use="embedding"), embedding)
        default.active = False
        self.provider.invalidate_recordset()
        self.assertEqual(self.provider.get_model(), first)

    def test_a_model_is_found_by_record_id_and_name(self):
        model = self._create_model("b")
        self._create_model("a")

        for wanted in (model, model.id, "b"):
            self.assertEqual(self.provider.get_model(wanted), model)

    def test_a_model_of_another_provider_is_refused(self):
        model = self._create_model(provider_id=self._create_provider(name="Other").id)

        for wanted in (model, model.id, "fake-1"):
            with self.assertRaisesRegex(UserError, "has no model"):
                self.provider.get_model(wanted)

    def test_a_provider_without_models_says_what_to_do(self):
        with self.assertRaisesRegex(UserError, "use “Embedding”. Fetch its models"):
            self.provider.get_model(model_use="embedding")

    def test_messages_and_tools_are_formatted_by_the_service_when_it_can(self):
        self.assertEqual(
            self.provider.format_messages([], system_prompt="Be brief."),
            [{"role": "system", "content": "Be brief."}],
        )
        self._offer("format_messages", lambda provider, messages, **kwargs: "own messages")
        self._offer("format_tools", lambda provider, tools: "own tools")

        self.assertEqual(self.provider.format_messages([]), "own messages")
        self.assertEqual(self.provider.format_tools([]), "own tools")

    def test_the_key_is_read_by_managers_only(self):
        provider = self.provider.with_user(self.user)

        self.assertEqual(provider.name, "Fake provider")
        self.assertNotIn("api_key", provider.read()[0])
        with self.assertRaises(AccessError):
            provider.read(["api_key"])
        with self.assertRaises(AccessError):
            provider.search([("api_key", "=like", "sk-%")])
        self.assertEqual(self.provider.with_user(self.manager).api_key, "sk-secret")

    def test_the_key_is_used_by_who_may_read_the_provider(self):
        provider = self.provider.with_user(self.user)
        self.env.invalidate_all()

        self.assertEqual(provider._read_api_key(), "sk-secret")
        provider.sudo().active = False
        self.assertEqual(provider._read_api_key(), "sk-secret")
        provider.sudo().api_key = False
        self.assertEqual(provider._read_api_key(), "")

    def test_a_key_that_was_used_opens_nothing(self):
        self.provider.company_id = self.env["res.company"].create({"name": "Elsewhere"})
        self.env.flush_all()
        self.env.invalidate_all()
        provider = self.provider.with_user(self.manager)

        with self.assertRaises(AccessError):
            provider._read_api_key()
        for name in ("name", "api_base", "api_key"):
            # Each time: what expects an exception forgets all caches after it.
            self.assertEqual(self.provider.sudo()._read_api_key(), "sk-secret")
            with self.subTest(field=name), self.assertRaises(AccessError):
                provider[name]

    def test_a_key_that_was_used_is_in_no_cache(self):
        self.env.flush_all()
        self.env.invalidate_all()

        self.assertEqual(self.provider.with_user(self.user)._read_api_key(), "sk-secret")

        self.assertNotIn(
            self.provider.id, self.provider._fields["api_key"]._get_cache(self.provider.env)
        )

    def test_code_that_reads_another_field_as_superuser_does_not_read_the_key(self):
        self.env.invalidate_all()

        self.assertEqual(self.provider.sudo().name, "Fake provider")

        self.assertNotIn(
            self.provider.id, self.provider._fields["api_key"]._get_cache(self.provider.env)
        )

    def test_the_key_is_not_copied(self):
        self.assertFalse(self.provider.copy().api_key)

    def test_only_managers_change_providers(self):
        with self.assertRaises(AccessError):
            self.provider.with_user(self.user).api_base = "http://localhost"

        self.provider.with_user(self.manager).api_base = "http://localhost"

        self.assertEqual(self.provider.api_base, "http://localhost")

    def test_a_provider_is_seen_in_its_company_only(self):
        company = self.env["res.company"].create({"name": "Elsewhere"})
        model = self._create_model()
        seen = self.env["llm.provider"].with_user(self.manager)

        self.provider.company_id = company
        self.assertNotIn(self.provider, seen.search([]))
        self.assertNotIn(model, seen.env["llm.model"].search([]))
        self.provider.company_id = False
        self.assertIn(self.provider, seen.search([]))
        self.assertIn(model, seen.env["llm.model"].search([]))

    def test_a_remote_client_cannot_call_a_model_past_the_thread(self):
        self._offer("chat", lambda provider, *args, **kwargs: "answer")
        model = self._create_model()

        for record in (self.provider, model):
            with self.assertRaisesRegex(AccessError, "Private methods"):
                call_kw(record.with_user(self.manager), "chat", [record.ids, []], {})

    def test_admin_and_root_are_managers(self):
        for xmlid in ("base.user_admin", "base.user_root"):
            self.assertTrue(self.env.ref(xmlid).has_group("llm.group_llm_manager"), xmlid)

    def test_a_manager_makes_a_provider_in_the_form(self):
        with Form(self.env["llm.provider"].with_user(self.manager)) as form:
            form.name = "New"
            form.service = "fake"
            form.api_key = "sk-new"
            provider = form.save()

        self.assertRecordValues(
            provider, [{"api_key": "sk-new", "company_id": self.env.company.id, "model_count": 0}]
        )
