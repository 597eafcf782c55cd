from .common import LlmGenerationCommon

LIMIT = 25


def tool_call(call_id):
    function = {"name": "x", "arguments": "{}"}
    return {"tool_calls": [{"id": call_id, "type": "function", "function": function}]}


class TestConversation(LlmGenerationCommon):
    """What a model is given of a thread, in which questions wait while others are answered."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.thread = cls._create_thread(cls.direct_model)

    def _post(self, llm_role, body="x", parent=None, **kwargs):
        return self.thread.message_post(
            body=body, llm_role=llm_role, parent_id=parent and parent.id, **kwargs
        )

    def _post_call(self, parent, call_id="call_1", answered=True):
        call = self._post("assistant", "", parent, body_json=tool_call(call_id))
        if not answered:
            return call
        data = {"tool_call_id": call_id, "result": 1}
        return call + self._post("tool", "x", parent, body_json=data)

    def _given(self, question=None, limit=LIMIT):
        """Return what the model gets of the newest messages of the thread."""
        domain = [("model", "=", "llm.thread"), ("res_id", "=", self.thread.id)]
        domain += [("llm_role", "!=", False), ("is_error", "=", False)]
        self.env.flush_all()  # the search of messages does not
        newest = self.thread.env["mail.message"].search(domain, order="id desc", limit=limit)
        return list(newest.sorted("id")._as_asked(question))

    def test_two_waiting_questions_answer_each_its_own(self):
        first = self._post("user", "first")
        second = self._post("user", "second")
        self.assertEqual(self._given(first), [first])
        answer = self._post("assistant", "to first", first)
        self.assertEqual(self._given(second), [first, answer, second])

    def test_a_question_answered_early_is_left_out_for_an_older_one(self):
        first = self._post("user", "first")
        second = self._post("user", "second")
        self._post("assistant", "to second", second)
        self.assertEqual(self._given(first), [first])

    def test_answers_follow_their_questions(self):
        first, second = self._post("user"), self._post("user")
        to_first, to_second = (self._post("assistant", parent=one) for one in (first, second))
        third = self._post("user")
        self.assertEqual(self._given(third), [first, to_first, second, to_second, third])
        self.assertEqual(self._given(), [first, to_first, second, to_second, third])

    def test_a_repeated_question_keeps_its_tool_calls_and_drops_its_answer(self):
        question = self._post("user")
        pair = self._post_call(question)
        self._post("assistant", "old answer", question)
        self.assertEqual(self._given(question), [question, *pair])

    def test_calls_without_a_result_and_results_without_a_call_are_left_out(self):
        question = self._post("user")
        self._post("tool", "x", question, body_json={"tool_call_id": "lost", "result": 1})
        self._post_call(question, "call_0", answered=False)
        pair = self._post_call(question, "call_1")
        self.assertEqual(self._given(), [question, *pair])

    def test_the_past_begins_with_no_orphan(self):
        question = self._post("user", "old")
        self._post_call(question)
        for number in range(LIMIT - 1):
            self._post("user", f"question {number}")
        self.assertNotIn("tool", [message.llm_role for message in self._given()])

    def test_many_later_questions_take_nothing_of_the_past(self):
        past = self._post("user", "past")
        answer = self._post("assistant", "to past", past)
        question = self._post("user", "this one")
        later = [self._post("user", f"later {number}") for number in range(LIMIT + 5)]
        self._post("assistant", "to a later one", later[0])
        self.assertEqual(self._given(question), [past, answer, question])

    def test_what_is_said_for_an_answer_belongs_to_its_question(self):
        """Two jobs of a thread, of which the second was asked before the first was answered."""
        jobs = [self.thread.enqueue_generation(text) for text in ("first", "second")]
        self._process_queue(self.direct)
        asked = [list(messages) for messages in self.service.calls["chat"]]
        first, second = (job.input_message_id for job in jobs)
        answer = jobs[0].output_message_id
        self.assertEqual(asked, [[first], [first, answer, second]])
        self.assertEqual([job.output_message_id.parent_id for job in jobs], [first, second])

    def test_a_later_question_waits_for_the_earlier_one(self):
        jobs = [self.thread.enqueue_generation(text) for text in ("first", "second", "third")]
        for place, job in enumerate(jobs):
            claims, _waits = self._engine()._claim(9, queue_ids=self.direct_queue.ids)
            self.assertEqual([claim.job_id for claim in claims], [job.id])
            self.assertEqual([one.state for one in jobs[place + 1 :]], ["queued"] * (2 - place))
            self.assertFalse(any(one.sudo().attempt_count for one in jobs[place + 1 :]))
            job.sudo().action_complete()

    def test_pictures_are_made_side_by_side(self):
        self.direct_model.model_use = "image_generation"
        for text in ("first", "second"):
            self.thread.enqueue_generation(text)
        claims, _waits = self._engine()._claim(9, queue_ids=self.direct_queue.ids)
        self.assertEqual(len(claims), 2)

    def test_a_question_that_a_tool_asks_knows_what_is_said_for_it(self):
        """A generation that goes on after a tool, without another question."""
        question = self._post("user")
        call, result = self._post_call(question)
        more = self._post_call(result, "call_2")
        self.assertEqual(self._given(result), [question, call, result, *more])

    def test_a_question_for_later_holds_up_nobody(self):
        self.thread.enqueue_generation("later", scheduled_at="2999-01-01 00:00:00")
        job = self.thread.enqueue_generation("now")
        self._process_queue(self.direct)
        self.assertEqual(job.state, "completed", job.error_message)

    def test_a_direct_answer_belongs_to_its_question(self):
        waiting = self.thread.enqueue_generation("waits")
        list(self.thread.generate("answered at once"))
        self._process_queue(self.direct)
        self.assertEqual(list(self.service.calls["chat"][-1]), [waiting.input_message_id])
