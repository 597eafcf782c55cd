from ..history import HISTORY_LIMIT
from .common import LlmThreadCommon, tool_call


class TestHistory(LlmThreadCommon):
    def _post(self, llm_role, body="x", parent=None, **kwargs):
        return self.thread.message_post(
            body=body, llm_role=llm_role, parent_id=parent and parent.id, **kwargs
        )

    def _post_call(self, parent, call_id="call_1", answered=True):
        call = self._post("assistant", "", parent, body_json=tool_call("x", call_id=call_id))
        if not answered:
            return call
        data = {"tool_call_id": call_id, "result": 1}
        return call + self._post("tool", "x", parent, body_json=data)

    def test_messages_come_oldest_first_without_errors_and_notes(self):
        system = self._post("system")
        question = self._post("user")
        self._post("assistant", parent=question, is_error=True)
        self.thread.message_post(body="note")
        answer = self._post("assistant", parent=question)

        self.assertEqual(list(self.thread._generation_messages()), [system, question, answer])

    def test_two_waiting_questions_answer_each_its_own(self):
        first = self._post("user", "first")
        second = self._post("user", "second")
        self.assertEqual(list(self.thread._generation_messages(first)), [first])

        answer = self._post("assistant", "to first", first)

        self.assertEqual(list(self.thread._generation_messages(second)), [first, answer, second])

    def test_answers_without_a_parent_come_before_the_question_too(self):
        first = self._post("user", "first")
        second = self._post("user", "second")
        answer = self._post("assistant", "to first")

        self.assertEqual(list(self.thread._generation_messages(second)), [first, answer, second])

    def test_a_question_answered_early_is_left_out_for_an_older_one(self):
        first = self._post("user", "first")
        second = self._post("user", "second")
        self._post("assistant", "to second", second)

        self.assertEqual(list(self.thread._generation_messages(first)), [first])

    def test_answers_follow_their_questions(self):
        first, second = self._post("user"), self._post("user")
        to_first, to_second = (self._post("assistant", parent=one) for one in (first, second))
        third = self._post("user")

        self.assertEqual(
            list(self.thread._generation_messages(third)),
            [first, to_first, second, to_second, third],
        )

    def test_a_repeated_question_keeps_its_tool_calls_and_drops_its_answer(self):
        question = self._post("user")
        pair = self._post_call(question)
        self._post("assistant", "old answer", question)

        self.assertEqual(list(self.thread._generation_messages(question)), [question, *pair])

    def test_calls_without_a_result_and_results_without_a_call_are_left_out(self):
        question = self._post("user")
        self._post("tool", "x", question, body_json={"tool_call_id": "lost", "result": 1})
        self._post_call(question, "call_0", answered=False)
        pair = self._post_call(question, "call_1")

        self.assertEqual(list(self.thread._generation_messages()), [question, *pair])

    def test_the_past_is_bounded_and_begins_with_no_orphan(self):
        question = self._post("user", "old")
        self._post_call(question)
        for number in range(HISTORY_LIMIT - 1):
            self._post("user", f"question {number}")

        messages = self.thread._generation_messages()

        self.assertEqual(len(messages), HISTORY_LIMIT - 1)
        self.assertNotIn("tool", messages.mapped("llm_role"))

    def test_a_question_older_than_the_bound_is_still_asked(self):
        question = self._post("user", "old")
        for _number in range(2 * HISTORY_LIMIT + 1):
            self._post("assistant", "x")

        messages = self.thread._generation_messages(question)

        self.assertEqual(messages[-1], question)
        self.assertEqual(len(messages), HISTORY_LIMIT + 1)
