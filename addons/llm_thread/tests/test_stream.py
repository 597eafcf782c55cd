from unittest.mock import patch

import requests

from .. import answer_stream
from ..exceptions import AnswerError
from .common import LlmThreadCommon, chunks_of, words


class TestStream(LlmThreadCommon):
    def setUp(self):
        super().setUp()
        self.clock = 0.0
        patcher = patch.object(answer_stream.time, "monotonic", lambda: self.clock)
        patcher.start()
        self.addCleanup(patcher.stop)

    def _wait(self, seconds):
        def wait():
            self.clock += seconds

        return wait

    def _post(self, *items, **kwargs):
        """Post from a stream of chunks, callables and exceptions; return the generator."""
        return self.thread.message_post_from_stream(chunks_of(items), "assistant", **kwargs)

    def test_nothing_is_written_before_the_first_chunk(self):
        seen = []
        generator = self._post(lambda: seen.append(len(self._messages())), {"content": "Hi"})

        event = next(generator)

        self.assertEqual(seen, [0])
        self.assertEqual(
            (event["type"], event["message"]["body"]), ("message_create", '<p dir="auto">Hi</p>')
        )

    def test_chunks_are_written_at_most_five_times_a_second_and_the_last_always(self):
        generator = self._post(
            {"content": "a"},
            self._wait(0.1),
            {"content": "b"},
            self._wait(0.1),
            {"content": "c"},
            self._wait(0.15),
            {"content": "d"},
        )

        events = [(event["type"], event["message"]["body"]) for event in generator]

        self.assertEqual(
            events,
            [
                ("message_create", '<p dir="auto">a</p>'),
                ("message_chunk", '<p dir="auto">abc</p>'),
                ("message_update", '<p dir="auto">abcd</p>'),
            ],
        )

    def test_a_long_answer_is_written_less_often(self):
        generator = self._post(
            {"content": "x" * 30_000},
            self._wait(0.5),
            {"content": "y"},
            self._wait(0.5),
            {"content": "z"},
        )

        ends = [event["message"]["body"].strip("</p>")[-2:] for event in generator]

        self.assertEqual(ends, ["xx", "yz", "yz"])

    def test_the_generator_returns_the_message(self):
        def run():
            yield (yield from self._post({"content": "Hi"}))

        *_events, message = run()

        self.assertEqual(message, self._messages())

    def test_the_last_usage_comes_with_the_last_event(self):
        usage = {"prompt_tokens": 3, "completion_tokens": 2}

        *others, last = self._post(
            {"content": "a"},
            {"usage": {"prompt_tokens": 3, "completion_tokens": 1}},
            {"usage": usage},
        )

        self.assertEqual(last["usage"], usage)
        self.assertFalse([event for event in others if "usage" in event])

    def test_tool_calls_are_kept_and_the_placeholder_does_not_stay(self):
        calls = [{"id": "1", "type": "function", "function": {"name": "x", "arguments": "{}"}}]

        first, last = self._post({"tool_calls": calls}, placeholder_text="Thinking")

        self.assertEqual(first["message"]["body"], '<p dir="auto">Thinking</p>')
        self.assertFalse(last["message"]["body"])
        self.assertEqual(last["message"]["body_json"], {"tool_calls": calls})

    def test_an_error_chunk_keeps_what_came_and_marks_the_message(self):
        generator = self._post({"content": "Half"}, {"error": "Too <hot>"}, {"content": "lost"})

        events, error = self._fail(generator, AnswerError)

        self.assertEqual(str(error), "Too <hot>")
        self.assertEqual([event["type"] for event in events], ["message_create", "message_update"])
        self.assertRecordValues(
            self._messages(),
            [{"is_error": True, "body": '<p dir="auto">Half</p><p><em>Too &lt;hot&gt;</em></p>'}],
        )

    def test_an_exception_in_the_middle_goes_on_as_it_is(self):
        broken = requests.exceptions.ChunkedEncodingError("secret https://key@host")

        events, error = self._fail(self._post({"content": "Half"}, broken), OSError)

        self.assertIs(error, broken)
        self.assertTrue(events[-1]["message"]["is_error"])
        self.assertIn('<p dir="auto">Half</p>', self._messages().body)
        self.assertIn("Try again", self._messages().body)
        self.assertNotIn("secret", self._messages().body)

    def test_a_stream_that_fails_at_once_posts_nothing(self):
        for items, error_class in (
            ([{"error": "No"}], AnswerError),
            ([requests.ConnectionError("No")], requests.ConnectionError),
            ([], AnswerError),
            ([{"usage": {"prompt_tokens": 1, "completion_tokens": 0}}], AnswerError),
        ):
            with self.subTest(items=items):
                events, _error = self._fail(self._post(*items), error_class)

                self.assertFalse(events)
                self.assertFalse(self._messages())

    def test_closing_keeps_what_came_and_closes_the_stream(self):
        closed = []

        def chunks():
            try:
                yield {"content": "a"}
                yield {"content": "b"}
                yield {"content": "c"}
            finally:
                closed.append(True)

        self.clock = 0
        generator = self.thread.message_post_from_stream(chunks(), "assistant")
        next(generator)
        self.clock = 1
        next(generator)
        generator.close()

        self.assertTrue(closed)
        self.assertRecordValues(
            self._messages(), [{"body": '<p dir="auto">ab</p>', "is_error": False}]
        )

    def test_a_stream_cannot_smuggle_html_in_over_several_chunks(self):
        *_others, last = self._post(*words("<scr", "ipt>alert(1)</scr", "ipt>"))

        self.assertEqual(
            last["message"]["body"], '<p dir="auto">&lt;script&gt;alert(1)&lt;/script&gt;</p>'
        )
