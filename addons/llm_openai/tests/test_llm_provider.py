from unittest.mock import patch
from urllib.parse import quote

import requests

from odoo.exceptions import AccessError, UserError
from odoo.tests import new_test_user

from .common import API_KEY, LlmOpenaiCommon, delta, json_answer, stream_answer

TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}


class TestLlmProvider(LlmOpenaiCommon):
    def _sent(self, index=-1):
        return self.server.requests[index][2]

    def test_the_service_can_be_chosen(self):
        self.assertIn(
            ("openai", "OpenAI-compatible"), self.env["llm.provider"]._get_available_services()
        )

    def test_stream_yields_words_and_usage(self):
        self.answer(
            stream_answer(
                delta("", role="assistant"),
                delta("Hel"),
                delta("lo"),
                delta(finish_reason="stop"),
                {"choices": [], "usage": USAGE},
            )
        )

        chunks = self._stream(temperature=0.5)

        self.assertEqual(
            chunks,
            [
                {"content": "Hel"},
                {"content": "lo"},
                {"usage": USAGE},
                {"finish_reason": "stop"},
            ],
        )
        self.assertEqual(
            self._sent(),
            {
                "model": "tiny-chat",
                "messages": [{"role": "user", "content": "Hi"}],
                "stream": True,
                "stream_options": {"include_usage": True},
                "temperature": 0.5,
            },
        )

    def test_nothing_is_sent_before_the_first_chunk_is_asked_for(self):
        self.provider.chat([{"role": "user", "content": "Hi"}], stream=True)

        self.assertFalse(self.server.requests)

    def test_a_server_that_refuses_the_usage_option_is_asked_without(self):
        self.answer(
            json_answer({"error": {"message": "Unknown field: stream_options"}}, status=400),
            stream_answer(delta("ok"), delta(finish_reason="stop")),
        )

        self.assertEqual(self._stream(), [{"content": "ok"}, {"finish_reason": "stop"}])
        self.assertNotIn("stream_options", self._sent())

    def test_another_bad_request_is_not_repeated(self):
        self.answer(json_answer({"error": {"message": "Too long"}}, status=400))

        with self.assertRaisesRegex(requests.HTTPError, "HTTP 400: Too long"):
            self._stream()

        self.assertEqual(len(self.server.requests), 1)

    def test_a_server_that_cannot_stream_answers_at_once(self):
        self.answer(
            json_answer({"choices": [{"message": {"content": "All"}, "finish_reason": "stop"}]})
        )

        self.assertEqual(self._stream(), [{"content": "All"}, {"finish_reason": "stop"}])

    def test_tool_calls_are_put_together_from_deltas(self):
        first = {"index": 0, "id": "a1", "function": {"name": "add", "arguments": '{"x"'}}
        second = {"index": 1, "id": "a2", "function": {"name": "add", "arguments": ""}}
        rest = {"index": 0, "function": {"arguments": ": 1}"}}
        self.answer(
            stream_answer(
                delta(tool_calls=[first]),
                delta(tool_calls=[second, rest]),
                delta(finish_reason="tool_calls"),
            )
        )

        chunk, _reason = self._stream(tools=[TOOL])

        self.assertEqual(
            chunk,
            {
                "tool_calls": [
                    {
                        "id": "a1",
                        "type": "function",
                        "function": {"name": "add", "arguments": '{"x": 1}'},
                    },
                    {
                        "id": "a2",
                        "type": "function",
                        "function": {"name": "add", "arguments": "{}"},
                    },
                ]
            },
        )
        self.assertEqual(self._sent()["tools"], [TOOL])

    def test_tool_calls_without_index_or_id_stay_apart(self):
        def piece(**call):
            return delta(tool_calls=[call])

        self.answer(
            stream_answer(
                piece(id="a", function={"name": "one", "arguments": "{"}),
                piece(function={"arguments": "}"}),
                piece(id="b", function={"name": "two", "arguments": "{}"}),
                delta(finish_reason="tool_calls"),
            )
        )

        chunk, _reason = self._stream(tools=[TOOL])

        self.assertEqual(
            [(call["id"], call["function"]) for call in chunk["tool_calls"]],
            [
                ("a", {"name": "one", "arguments": "{}"}),
                ("b", {"name": "two", "arguments": "{}"}),
            ],
        )

    def test_calls_that_share_an_index_or_an_id_stay_apart(self):
        """As Gemini sends them: each whole, all under index 0, some without an id."""
        given = [("one", '{"x": 1}'), ("one", '{"x": 2}'), ("two", {"x": 3}), ("two", {})]
        for ids in (("a", "b", "c", "d"), ("", "", "", ""), ("a", "a", "a", "a")):
            for index in ({"index": 0}, {}):
                with self.subTest(ids=ids, index=index):
                    calls = [
                        {**index, "id": call_id, "function": {"name": name, "arguments": arguments}}
                        for call_id, (name, arguments) in zip(ids, given, strict=True)
                    ]
                    calls[0]["extra_content"] = {"google": {"thought_signature": "s"}}
                    for events in (
                        [delta(tool_calls=[one]) for one in calls],
                        [delta(tool_calls=calls)],
                    ):
                        self.answer(stream_answer(*events))

                        [chunk] = self._stream(tools=[TOOL])

                        got = chunk["tool_calls"]
                        self.assertEqual(
                            [
                                (call["function"]["name"], call["function"]["arguments"])
                                for call in got
                            ],
                            [
                                ("one", '{"x": 1}'),
                                ("one", '{"x": 2}'),
                                ("two", '{"x": 3}'),
                                ("two", "{}"),
                            ],
                        )
                        self.assertEqual(got[0]["extra_content"], calls[0]["extra_content"])

    def test_a_call_that_repeats_its_id_and_name_is_one(self):
        pieces = [
            {"index": 0, "id": "a", "function": {"name": name, "arguments": text}}
            for name, text in (("one", ""), ("", '{"x"'), (None, ": 1}"))
        ]
        self.answer(stream_answer(*(delta(tool_calls=[piece]) for piece in pieces)))

        [chunk] = self._stream(tools=[TOOL])

        [call] = chunk["tool_calls"]
        self.assertEqual(call["function"], {"name": "one", "arguments": '{"x": 1}'})

    def test_a_name_that_comes_with_each_piece_is_that_name(self):
        pieces = [
            {"index": 0, "id": "a", "function": {"name": "one", "arguments": text}}
            for text in ("", '{"x"', ": 1}")
        ]
        self.answer(stream_answer(*(delta(tool_calls=[piece]) for piece in pieces)))

        [chunk] = self._stream(tools=[TOOL])

        [call] = chunk["tool_calls"]
        self.assertEqual(call["function"], {"name": "one", "arguments": '{"x": 1}'})

    def test_a_call_that_is_sent_twice_is_one(self):
        call = {"id": "a", "function": {"name": "one", "arguments": '{"x": 1}'}}
        for indexes in ((0, 0), (0, 1)):
            with self.subTest(indexes):
                deltas = [delta(tool_calls=[{**call, "index": index}]) for index in indexes]
                self.answer(stream_answer(*deltas))

                [chunk] = self._stream(tools=[TOOL])

                self.assertEqual(len(chunk["tool_calls"]), 1)

    def test_chat_without_stream(self):
        call = {"id": "a1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
        self.answer(
            json_answer({
                "choices": [{"message": {"content": None, "tool_calls": [call]}}],
                "usage": USAGE,
            })
        )

        result = self.provider.chat(
            [{"role": "user", "content": "Hi"}],
            prepend_messages=[{"role": "system", "content": "Be brief"}],
        )

        self.assertEqual(
            result,
            {
                "content": "",
                "tool_calls": [call],
                "usage": USAGE,
            },
        )
        self.assertEqual([m["role"] for m in self._sent()["messages"]], ["system", "user"])
        self.assertNotIn("stream", self._sent())

    def test_records_are_sent_as_messages(self):
        partner = self.env["res.partner"].create({"name": "Host"})
        message = partner.message_post(body="1 < 2", subtype_xmlid="llm.mt_user")
        self.answer(json_answer({"choices": [{"message": {"content": "yes"}}]}))

        self.provider.chat(message)

        self.assertEqual(self._sent()["messages"], [{"role": "user", "content": "1 < 2"}])

    def test_the_open_stream_is_given_to_the_callable_of_the_context(self):
        opened = []
        self.answer(stream_answer(delta("a", "stop")))
        provider = self.provider.with_context(llm_on_response=opened.append)

        list(provider.chat([{"role": "user", "content": "Hi"}], stream=True))

        connection, stream = opened
        self.assertFalse(hasattr(connection, "headers"))
        self.assertIn("text/event-stream", stream.headers["Content-Type"])
        connection.close()
        stream.close()

    def test_who_sets_how_long_an_answer_may_take_is_heard(self):
        limits = {"in code": ((1, 2), (1, 2)), "by nobody": (None, (10, 120))}
        for what, (given, expected) in limits.items():
            with self.subTest(what=what):
                self.assertEqual(self.provider._openai_client(given).timeout, expected)
        with patch.object(type(self.provider), "_answer_seconds", lambda _provider: 1800):
            self.assertEqual(self.provider._openai_client().timeout, (10, 1800))

    def test_a_user_may_use_the_key_without_reading_it(self):
        user = new_test_user(self.env, "openai_user")
        provider = self.provider.with_user(user)
        self.answer(json_answer({"choices": [{"message": {"content": "Hi"}}]}))

        self.assertEqual(provider.chat([{"role": "user", "content": "Hi"}])["content"], "Hi")
        self.assertEqual(self.server.requests[0][1]["Authorization"], f"Bearer {API_KEY}")
        with self.assertRaises(AccessError):
            provider.read(["api_key"])

    def test_a_key_that_no_header_can_carry_is_refused_without_showing_it(self):
        self.provider.api_key = "sk-secret\nX-Evil: 1"

        with self.assertRaises(UserError) as caught:
            self.provider.chat([{"role": "user", "content": "Hi"}])

        self.assertNotIn("secret", str(caught.exception))
        self.assertFalse(self.server.requests)

    def test_embeddings_come_in_the_order_of_the_texts(self):
        self._create_model("tiny-embed", "embedding")
        self.answer(
            json_answer({
                "data": [{"index": 1, "embedding": [2.0]}, {"index": 0, "embedding": [1.0]}]
            })
        )

        self.assertEqual(self.provider.embedding(["a", "b"]), [[1.0], [2.0]])
        self.assertEqual(self._sent(), {"model": "tiny-embed", "input": ["a", "b"]})

    def test_models_are_listed(self):
        self.answer(
            json_answer({"data": [{"id": "m1", "owned_by": "us"}]}), json_answer({"id": "m2"})
        )

        self.assertEqual(
            list(self.provider.list_models()),
            [{"name": "m1", "details": {"id": "m1", "owned_by": "us"}}],
        )
        self.assertEqual(self.provider.list_models("m2")[0]["name"], "m2")
        self.assertEqual(self.server.requests[1][0], "/v1/models/m2")

    def test_a_list_of_something_else_has_no_models(self):
        for rows in (
            [1, "m", None, {"id": 5}, {"id": ["m"]}, {}, {"id": "m1"}],
            7,
            "m",
            {"id": "m"},
        ):
            self.answer(json_answer({"data": rows}))

            names = [row["name"] for row in self.provider.list_models()]

            self.assertEqual(names, ["m1"] if isinstance(rows, list) else [])

    def test_generate_makes_images_with_an_image_model(self):
        model = self._create_model("tiny-image", "image_generation")
        self.answer(
            json_answer({
                "created": 1,
                "data": [{"url": "https://example.com/a.png"}, {"b64_json": "aGk="}, {}],
            })
        )

        output, files = self.provider.generate({"prompt": "a cat", "n": 2}, model=model)

        self.assertEqual(output, {"created": 1, "revised_prompts": []})
        self.assertEqual(
            files,
            [
                {
                    "url": "https://example.com/a.png",
                    "content_type": "image/png",
                    "filename": "image_1.png",
                },
                {
                    "url": "data:image/png;base64,aGk=",
                    "content_type": "image/png",
                    "filename": "image_2.png",
                },
            ],
        )
        self.assertEqual(self.server.requests[0][0], "/v1/images/generations")

    def test_the_format_of_an_image_is_a_known_one(self):
        model = self._create_model("tiny-image", "image_generation")
        for told, content_type in (
            ("webp", "image/webp"),
            ("svg+xml", "image/png"),
            ([], "image/png"),
        ):
            self.answer(json_answer({"output_format": told, "data": [{"b64_json": "aGk="}]}))
            _output, (file,) = self.provider.generate({"prompt": "a cat"}, model=model)

            self.assertEqual(file["content_type"], content_type)

    def test_inputs_name_nothing_of_the_account_and_no_tools(self):
        model = self._create_model("tiny-image", "image_generation")
        for one, names in (
            (self.chat_model, ("messages", "tools", "web_search_options", "store", "service_tier")),
            (model, ("user", "moderation", "model", "image_url")),
        ):
            for name in names:
                with self.subTest(name), self.assertRaisesRegex(UserError, f"have {name}. Take"):
                    self.provider.generate({"prompt": "a cat", name: "x"}, model=one)
        self.assertFalse(self.server.requests)

    def test_generate_writes_text_with_a_chat_model(self):
        self.answer(json_answer({"choices": [{"message": {"content": "meow"}}]}))

        output, files = self.provider.generate(
            {"prompt": "a cat", "max_tokens": 5}, model=self.chat_model
        )

        self.assertEqual((output, files), ({"content": "meow"}, []))
        self.assertEqual(
            self._sent(),
            {
                "model": "tiny-chat",
                "max_tokens": 5,
                "messages": [{"role": "user", "content": "a cat"}],
            },
        )

    def test_a_name_of_a_model_does_not_lead_to_another_address(self):
        for name in ("../files/abc", "a/../../b", "a?b=c", "a#b", "%2e%2e", "a b", "ä", "..\\x"):
            self.server.requests.clear()
            self.answer(json_answer({"id": name}))
            with self.subTest(name=name):
                self.provider.list_models(name)

                path = self.server.requests[0][0]
                self.assertEqual(path, f"/v1/models/{quote(name, safe='')}")

        self.server.requests.clear()
        for name in (".", ".."):
            with self.subTest(name=name), self.assertRaisesRegex(UserError, "is no name"):
                self.provider.list_models(name)
        self.assertFalse(self.server.requests)

    def test_a_limit_of_the_answer_is_sent_under_its_name(self):
        text = {"choices": [{"message": {"content": "meow"}}]}
        for name in ("max_tokens", "max_completion_tokens"):
            self.answer(json_answer(text))
            self.provider.chat([{"role": "user", "content": "Hi"}], **{name: 5})
            self.assertEqual(self._sent(-1)[name], 5)
        self.answer(json_answer(text))
        self.provider.generate({"prompt": "a cat", "max_output_tokens": 5}, model=self.chat_model)
        sent = self._sent(-1)
        self.assertEqual((sent["max_tokens"], "max_output_tokens" in sent), (5, False))
