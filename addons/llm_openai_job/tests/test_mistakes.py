import socket

from odoo.exceptions import UserError

from odoo.addons.llm_generate_job.tests.fake_http import Reply, json_reply

from .common import LlmOpenaiJobCommon, chat_reply


class TestMistakes(LlmOpenaiJobCommon):
    """What a manager is told who set a provider up, by whoever's client it is asked."""

    def setUp(self):
        super().setUp()
        self.provider = self.provider.with_user(self.manager)
        with socket.create_server(("127.0.0.1", 0)) as closed:
            self.closed = closed.getsockname()[1]

    def test_each_mistake_is_one_sentence(self):
        refused = json_reply({"error": {"message": "No such key", "code": "invalid_api_key"}}, 401)
        path = Reply(404, b"File Not Found", content_type="text/plain")
        base, address = self.provider.api_base, self.provider._fields["api_base"]
        address = address._description_string(self.env)
        for api_base, reply, said, place in (
            (base, refused, "No such key", "API Key"),
            (f"{base}/nowhere", path, "404", address),
            (f"http://127.0.0.1:{self.closed}/v1", None, "", address),
            ("http://nobody.invalid/v1", None, "", address),
            (base.removeprefix("http://"), None, "", address),
        ):
            self.provider.api_base = api_base
            with self.subTest(api_base=api_base, reply=reply):
                for ask in (self.provider.action_fetch_models, self._tell):
                    if reply:
                        self.answer(reply)
                    told = self._refusal(ask)
                    self.assertIn(said, told)
                    self.assertIn(f"“{place}”", told)
                    self.assertNotIn("Traceback", told)
                    self.assertNotIn("object at", told)

    def _tell(self):
        params = self.provider.action_test()["params"]
        self.assertFalse(params["is_fine"])
        raise UserError(params["message"])

    def test_all_is_well(self):
        listed = {"object": "list", "data": [{"id": "tiny", "object": "model"}]}
        self.answer(listed, chat_reply("OK then"))

        params = self.provider.action_test()["params"]

        self.assertTrue(params["is_fine"], params)
        self.assertEqual(self.server.requests[-1].json["stream"], True)
