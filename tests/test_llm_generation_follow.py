from unittest.mock import patch

from ..exceptions import BadRequestError, TransientError
from ..runner.cursor import LazyCursor
from .common import LlmGenerationCommon, posted

LAST = {"done", "error", "cancelled"}
KEYS = {
    "message_create": {"type", "message"},
    "message_chunk": {"type", "message"},
    "message_update": {"type", "message"},
    "job_status": {"type", "job_id", "state", "message", "position"},
    "done": {"type", "job_id", "message", "finish_reason"},
    "error": {"type", "error", "job_id"},
    "cancelled": {"type", "job_id"},
}


class TestLlmGenerationFollow(LlmGenerationCommon):
    """The events of `generate_response()` in queue mode."""

    def _respond(self, model=None, text="How are you?", **kwargs):
        thread = self._create_thread(model or self.direct_model)
        events = list(thread.generate_response(text, use_queue=True, **kwargs))
        self._assert_contract(events)
        return events, thread.generation_job_ids

    def _assert_contract(self, events):
        for event in events:
            self.assertEqual(event.keys(), KEYS[event["type"]], event)
        types = [event["type"] for event in events]
        self.assertIn(types[-1], LAST)
        self.assertFalse(LAST & set(types[:-1]), types)
        self.assertIn("job_status", types)

    def test_an_answer_comes_in_order(self):
        events, job = self._respond()
        self.assertEqual(
            [event["type"] for event in events],
            ["message_create", "job_status", "job_status", "message_create", "done"],
        )
        question, queued, ended, answer, done = events
        self.assertEqual(question["message"]["id"], job.input_message_id.id)
        self.assertEqual((queued["state"], queued["position"]), ("queued", 1))
        self.assertEqual((ended["state"], ended["position"]), ("completed", 0))
        self.assertEqual(answer["message"]["id"], job.output_message_id.id)
        self.assertEqual(done["message"]["id"], job.output_message_id.id)
        self.assertEqual({event["job_id"] for event in (queued, ended, done)}, {job.id})

    def test_a_look_at_a_job_takes_one_connection(self):
        job = self._create_job("completed")
        job.output_message_id = job.thread_id.message_post(body="Hi", llm_role="assistant")
        follow = self._engine().with_context(generation_inline=False)
        opened, open_one = [], LazyCursor._open
        with (
            self.enter_registry_test_mode(),
            patch.object(
                LazyCursor, "_open", lambda cr, **how: opened.append(1) or open_one(cr, **how)
            ),
        ):
            types = [event["type"] for event in follow._new_events(job, {})]
        self.assertEqual(types, ["job_status", "message_create", "done"])
        self.assertEqual(len(opened), 1)

    def test_the_place_in_the_queue_is_told(self):
        self._create_job("queued", self.direct_model)
        events, _job = self._respond()
        first = next(event for event in events if event["type"] == "job_status")
        self.assertEqual(first["position"], 2)
        self.assertIn("position 2", first["message"])

    def test_an_external_job_is_followed_to_its_end(self):
        self.service.answers["check"] = [
            {"state": "queued"},
            {"state": "running", "progress": 50},
            posted("Hi"),
        ]
        events, job = self._respond(self.native_model)
        self.assertEqual(job.state, "completed")
        self.assertEqual(events[-1]["type"], "done")
        self.assertEqual(events[-1]["message"]["id"], job.output_message_id.id)
        states = [event["state"] for event in events if event["type"] == "job_status"]
        self.assertEqual(states, ["queued", "running", "completed"])

    def test_an_answer_that_grows_is_sent_whole_each_time(self):
        follow, seen = self._engine(), {}
        job = self._create_job("running", self.direct_model)
        list(follow._new_events(job, seen))
        message = job.thread_id.message_post(body="One", llm_role="assistant")
        job.sudo().output_message_id = message
        [first] = follow._new_events(job, seen)
        self.assertEqual(list(follow._new_events(job, seen)), [])
        message.sudo().body = "<p>One two</p>"
        [second] = follow._new_events(job, seen)
        self.assertEqual([first["type"], second["type"]], ["message_create", "message_chunk"])
        self.assertIn("One two", str(second["message"]["body"]))
        job.action_complete()
        types = [event["type"] for event in follow._new_events(job, seen)]
        self.assertEqual(types, ["job_status", "done"])

    def test_a_failure_is_the_last_event(self):
        self.service.chunks = [BadRequestError("The question is too long.")]
        events, job = self._respond()
        self.assertEqual(job.state, "failed")
        self.assertEqual(events[-1]["type"], "error")
        self.assertIn("The question is too long.", events[-1]["error"])

    def test_a_failure_that_will_be_retried_later_is_an_end_for_who_waits(self):
        self.service.chunks = [TransientError("Oops")]
        events, job = self._respond()
        self.assertEqual(job.state, "failed")
        self.assertEqual(events[-1]["type"], "error")
        self.assertIn("Oops", events[-1]["error"])

    def test_a_retry_that_comes_soon_is_waited_for(self):
        job = self._create_job("running")
        job._set_state("failed", retry_at=self.env.cr.now())
        follow = self._engine().with_context(generation_inline=False)
        seen = {}
        list(follow._state_events(job.sudo(), seen))
        self.assertFalse(seen["ended"])

    def test_a_cancellation_is_the_last_event(self):
        self.service.answers["check"] = [{"state": "cancelled"}]
        events, job = self._respond(self.native_model)
        self.assertEqual(job.state, "cancelled")
        self.assertEqual(events[-1], {"type": "cancelled", "job_id": job.id})

    def test_a_job_that_was_deleted_is_as_good_as_cancelled(self):
        job = self._create_job("queued")
        job_id = job.id
        job.sudo().unlink()
        seen = {}
        events = list(self._engine()._new_events(job, seen))
        self.assertEqual(events, [{"type": "cancelled", "job_id": job_id}])

    def test_rights_are_asked_before_each_event(self):
        portal = self.env.ref("base.group_portal").ids
        elsewhere = self.env["res.company"].create({"name": "Elsewhere"})
        changes = {
            "the thread was given away": lambda job: job.thread_id.write({
                "user_id": self.manager.id
            }),
            "the job is another's": lambda job: job.write({"user_id": self.manager.id}),
            "the user was archived": lambda _job: self.user.action_archive(),
            "the user is a customer now": lambda _job: self.user.write({
                "group_ids": [(6, 0, portal)]
            }),
            "the user left the company": lambda _job: self.user.write({
                "company_id": elsewhere.id,
                "company_ids": [(6, 0, elsewhere.ids)],
            }),
        }
        for what, change in changes.items():
            with self.subTest(what):
                savepoint = self.env.cr.savepoint()
                follow, seen = self._follow_as(self.user), {}
                job = self._create_job("running", self.direct_model)
                self.assertEqual(len(list(follow._new_events(job, seen))), 1)
                change(job.sudo())
                job.sudo().output_message_id = job.thread_id.sudo().message_post(
                    body="Secret", llm_role="assistant"
                )
                self.env.flush_all()
                [event] = follow._new_events(job, seen)
                self.assertEqual((event["type"], event["job_id"]), ("error", job.id))
                self.assertIn("You may no longer read this conversation", event["error"])
                self.assertTrue(seen["ended"])
                savepoint.close(rollback=True)
                self.env.invalidate_all(flush=False)
                self.env.registry.clear_cache()

    def test_code_follows_whatever_job_it_likes(self):
        job = self._create_job("running", user=self.manager)
        self.assertEqual(len(list(self._engine().sudo()._new_events(job, {}))), 1)

    def _follow_as(self, user):
        companies = user.company_ids.ids
        follow = self._engine().with_user(user)
        return follow.with_context(allowed_company_ids=companies)

    def test_a_bad_input_is_refused_before_the_first_event(self):
        self.direct_model.details = {"input_schema": {"required": ["size"]}}
        thread = self._create_thread(self.direct_model)
        events = thread.generate_response("Draw", use_queue=True, inputs={"prompt": "x"})
        self.assertIn("'size' is a required property", self._refusal(next, events))

    def test_closing_the_generator_leaves_the_job_alone(self):
        thread = self._create_thread(self.direct_model)
        events = thread.generate_response("How are you?", use_queue=True)
        next(events)
        next(events)
        events.close()
        self.assertEqual(thread.generation_job_ids.state, "queued")
        self._process_queue(self.direct)
        self.assertEqual(thread.generation_job_ids.state, "completed")

    def test_who_chats_reads_no_status_of_http(self):
        told = {"error_type": "bad_request", "error_message": r"HTTP 400: \d is no number."}
        job = self._create_job("failed")
        job.write(told)
        self.assertEqual(job._status_sentence(), r"Request refused: \d is no number.")
        job.retry_at = "2099-01-01 12:00:00"
        self.assertNotIn("HTTP", job._status_sentence())

    def test_sentences_come_in_the_language_of_who_waits(self):
        for state in ("draft", "queued", "running", "completed", "failed", "cancelled"):
            with self.subTest(state=state):
                sentence = self._create_job(state)._status_sentence()
                self.assertRegex(sentence, r"^[A-Z].*[.]$")
