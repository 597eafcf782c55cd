from psycopg2.errors import UniqueViolation

from odoo.exceptions import AccessError, ValidationError
from odoo.tools import mute_logger

from .common import LlmCommon


class TestLlmModel(LlmCommon):
    def test_a_new_default_takes_the_place_of_the_old_one(self):
        first = self._create_model("a", default=True)
        second = self._create_model("b", default=True)
        self.assertRecordValues(first | second, [{"default": False}, {"default": True}])

        first.default = True
        self.assertRecordValues(first | second, [{"default": True}, {"default": False}])

    def test_the_last_default_of_a_batch_wins(self):
        values = {"provider_id": self.provider.id, "default": True}

        models = self.env["llm.model"].create([{**values, "name": name} for name in "abc"])

        self.assertEqual(models.filtered("default").name, "c")

    def test_each_use_and_each_provider_has_its_default(self):
        chat = self._create_model("a", default=True)
        embedding = self._create_model("b", model_use="embedding", default=True)
        other = self._create_model(
            "c", provider_id=self._create_provider(name="Other").id, default=True
        )

        self.assertEqual((chat | embedding | other).mapped("default"), [True] * 3)

    def test_a_default_that_changes_its_use_replaces_the_default_there(self):
        chat = self._create_model("a", default=True)
        embedding = self._create_model("b", model_use="embedding", default=True)

        chat.model_use = "embedding"

        self.assertRecordValues(chat | embedding, [{"default": True}, {"default": False}])

    def test_the_database_refuses_a_second_default(self):
        models = self._create_model("a", default=True) | self._create_model("b")
        self.env.flush_all()

        with self.assertRaises(UniqueViolation), mute_logger("odoo.sql_db"):
            self.env.cr.execute(
                'UPDATE llm_model SET "default" = TRUE WHERE id IN %s', [models._ids]
            )

    def test_details_are_edited_as_json(self):
        model = self._create_model(details={"input_schema": {"type": "object"}})
        self.assertIn('"input_schema"', model.details_text)

        model.details_text = '{"context": 4096}'
        self.assertEqual(model.details, {"context": 4096})

        for text, reason in (("{", "not valid JSON"), ("[1]", "JSON object")):
            with self.subTest(text=text), self.assertRaisesRegex(ValidationError, reason):
                model.details_text = text

    def test_a_model_calls_its_provider_with_itself(self):
        model = self._create_model()
        self._offer("chat", lambda provider, messages, model, **kwargs: ("chat", model))
        self._offer("generate", lambda provider, data, model, **kwargs: ("generate", model))
        self._offer("embedding", lambda provider, texts, model: ("embedding", model))

        self.assertEqual(model.chat([]), ("chat", model))
        self.assertEqual(model.generate({}), ("generate", model))
        self.assertEqual(model.embedding([]), ("embedding", model))

    def test_the_use_of_a_model_is_guessed(self):
        for name, capabilities, use in (
            ("gpt-4o-mini", [], "multimodal"),
            ("text-embedding-3-small", [], "embedding"),
            ("BAAI/bge-m3", [], "embedding"),
            ("dall-e-3", [], "image_generation"),
            ("FLUX.1-schnell", [], "image_generation"),
            ("gpt-3.5-turbo-instruct", [], "completion"),
            ("SmolLM2-135M-Instruct", [], "chat"),
            ("qwen2.5-vl-7b", [], "multimodal"),
            ("whisper-1", [], "generation"),
            ("anything", ["embedding"], "embedding"),
            ("anything", ["chat", "vision"], "multimodal"),
        ):
            with self.subTest(name=name, capabilities=capabilities):
                guess = self.env["llm.model"]._guess_model_use(name, {"capabilities": capabilities})
                self.assertEqual(guess, use)

    def test_users_read_models_and_managers_change_them(self):
        model = self._create_model()
        self.assertEqual(model.with_user(self.user).name, "fake-1")
        with self.assertRaises(AccessError):
            model.with_user(self.user).default = True

        model.with_user(self.manager).default = True
        self.assertTrue(model.default)

    def test_models_go_with_their_provider(self):
        model = self._create_model()

        self.provider.unlink()

        self.assertFalse(model.exists())
