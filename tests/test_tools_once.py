from unittest.mock import patch

from odoo.tests import tagged
from odoo.tools import mute_logger

from ..engine import execute
from ..engine.execute import TOOL_LOST, TOOL_NOT_CALLED
from .common import LlmGenerationCommon
from .family import play_family
from .test_family import CALL, http_error


def calls_of(*ids, arguments="{}"):
    """Return a chunk that calls the tool once for each id."""
    function = {"name": "look", "arguments": arguments}
    return {"tool_calls": [{"id": one, "type": "function", "function": function} for one in ids]}


class KilledError(BaseException):
    """Ends a process: what it has not committed is gone, and nothing is stored after it."""


@tagged("post_install", "-at_install")
class TestToolsOnce(LlmGenerationCommon):
    """What tools did for an answer is kept, whatever becomes of the attempt, and told."""

    def setUp(self):
        super().setUp()
        self.thread = self._create_thread(self.direct_model)
        self.thread.sudo().tool_ids = self.env["llm.tool"].create({
            "name": "look",
            "description": "Looks",
            "implementation": self._tool_implementation(),
        })
        for logger in ("llm_assistant.models.llm_thread", "llm_tool.models.mail_message"):
            self.enterContext(mute_logger(f"odoo.addons.{logger}"))

    def _asked(self, text="How are you?"):
        job = self.thread.enqueue_generation(text)
        self._process_queue(self.direct)
        return job

    def _again(self, job):
        """Have a job that failed or waits tried again, now."""
        self.direct_queue.paused_until = False
        if job.state == "failed":
            job.action_retry()
        self._process_queue(self.direct)

    def _goes_on(self):
        """Return a list that gets, for each commit of an answer, whether what was read counts."""
        kept, keep = [], type(self._engine())._keep

        def spy(engine, *args, **how):
            kept.append(how["goes_on"])
            return keep(engine, *args, **how)

        self.enterContext(patch.object(type(self._engine()), "_keep", spy))
        return kept

    def _messages(self, role):
        domain = [("model", "=", "llm.thread"), ("res_id", "=", self.thread.id)]
        self.env.flush_all()  # the search of messages does not
        return self.env["mail.message"].search([*domain, ("llm_role", "=", role)], order="id")

    def _turns(self, *turns, deadly=None):
        """Have each call of the provider answer with the chunks of its turn.

        :param int deadly: the call of a tool in which the process dies
        :return: a list that gets what each call of a tool was given, and the marks it found
        """
        left, done = list(turns), []

        def chat(_provider, messages, **_kwargs):
            self.service.chunks = left.pop(0)
            return self.service.chat(messages)

        def run(tool, parameters):
            marks = [one.body_json.get("status") for one in self._messages("tool")]
            done.append((parameters, marks))
            tool.env.user.partner_id.comment = f"{len(done)} times"
            if len(done) == deadly:
                raise KilledError
            return {"seen": len(done)}

        self.enterContext(self._offered("llm.provider", fakedirect_chat=chat))
        self.enterContext(self._offered("llm.tool", execute=run))
        return done

    def _killed(self, text="Look"):
        """Return a job whose process died, as the others come to know of it."""
        job = self.thread.enqueue_generation(text)
        claim = self._claim(job)
        engine = self._engine()
        with (
            mute_logger("odoo.addons.llm_generate_job.engine.execute"),
            patch.object(type(engine), "_complete_or_fail", lambda *_args, **_how: None),
        ):
            engine._run(engine._prefetch([claim])[0])
        self.assertEqual(job.state, "running")
        return job

    def _rescued(self, text="Look"):
        job = self._killed(text)
        with mute_logger("odoo.addons.llm_generate_job.engine.liveness"):
            self._engine()._rescue_job(job.sudo(), external=False)
        return job

    def _told(self):
        """Return what the model was told of each call, in the newest question to it."""
        asked = self.service.calls["chat"][-1]
        results = asked.filtered(lambda one: one.llm_role == "tool").mapped("body_json")
        return [one.get("error") or one["result"] for one in results]

    def test_an_attempt_goes_on_after_the_tools_of_the_one_before(self):
        limit = [http_error(429, **{"Retry-After": "2"})]
        turns = [[calls_of("a", "b")], limit, [calls_of("c")], limit, [{"content": "Seen."}]]
        done = self._turns(*turns)
        job = self._asked()
        for rounds in (1, 2):
            self.assertEqual((job.state, job.retry_count), ("queued", 0))
            self.assertEqual(len(self._messages("assistant")), rounds)
            self._again(job)
        self.assertEqual(job.state, "completed", job.error_message)
        self.assertEqual(len(done), 3)
        asked = [messages.mapped("llm_role") for messages in self.service.calls["chat"]]
        first, second = ["user"], ["user", "assistant", "tool", "tool"]
        third = [*second, "assistant", "tool"]
        self.assertEqual(asked, [first, second, second, third, third])

    def test_a_tool_is_marked_before_it_runs_and_runs_once(self):
        done = self._turns([{"tool_calls": [CALL]}], [{"content": "I shall look."}], deadly=1)
        comment = self.user.partner_id.comment
        job = self._rescued()
        self.assertEqual(self.user.partner_id.comment, comment)
        self.assertEqual(len(self._messages("tool")), 1)
        self._process_queue(self.direct)
        self.assertEqual(job.state, "completed", job.error_message)
        [(_given, [mark])] = done
        self.assertIn(mark, {"requested", "executing"})
        self.assertEqual(self._told(), [TOOL_LOST])

    def test_of_several_calls_each_is_told_by_how_far_it_came(self):
        chunk = calls_of("a", "b", "c")
        done = self._turns([chunk], [{"content": "I shall look."}], deadly=2)
        job = self._rescued()
        self._process_queue(self.direct)
        self.assertEqual(job.state, "completed", job.error_message)
        self.assertEqual(len(done), 2)
        self.assertEqual(self._told(), [{"seen": 1}, TOOL_LOST, TOOL_NOT_CALLED])
        self.assertIn("1 times", self.user.partner_id.comment)

    def test_what_a_cancelled_job_may_have_done_is_told_with_the_next_question(self):
        done = self._turns([{"tool_calls": [CALL]}], [{"content": "I shall look."}], deadly=1)
        self._killed().action_cancel()
        job = self._asked("And now?")
        self.assertEqual(job.state, "completed", job.error_message)
        self.assertEqual(len(done), 1)
        self.assertEqual(self._told(), [TOOL_LOST])
        roles = self.service.calls["chat"][-1].mapped("llm_role")
        self.assertEqual(roles, ["user", "assistant", "tool", "user"])

    def test_ids_that_repeat_have_a_result_each_and_arguments_may_be_an_object(self):
        chunk = calls_of("a", "a", "", arguments={"x": 1})
        done = self._turns([chunk], [http_error(500)], [{"content": "Seen."}])
        job = self._asked()
        self._again(job)
        self.assertEqual(job.state, "completed", job.error_message)
        self.assertEqual([given for given, _marks in done], [{"x": 1}] * 3)
        self.assertEqual(self._told(), [{"seen": 1}, {"seen": 2}, {"seen": 3}])
        calls = self._messages("assistant")[0].body_json["tool_calls"]
        ids = [call["id"] for call in calls]
        self.assertEqual((ids[0], len(set(ids)), "" in ids), ("a", 3, False))
        # Services that send objects want texts back, as all do.
        self.assertEqual({call["function"]["arguments"] for call in calls}, {'{"x": 1}'})

    def test_no_round_of_a_long_answer_is_left_out(self):
        """A model is given the newest 25 messages of a thread."""
        rounds = [[calls_of(*(f"{turn}{one}" for one in range(4)))] for turn in range(8)]
        done = self._turns(*rounds, [http_error(500)], [{"content": "Seen."}])
        job = self._asked()
        self._again(job)
        self.assertEqual(job.state, "completed", job.error_message)
        self.assertEqual(len(done), 32)
        self.assertEqual(len(self._told()), 32)
        asked = self.service.calls["chat"][-1]
        self.assertEqual(asked[0], job.input_message_id)

    def test_a_tool_begins_with_what_others_did_meanwhile(self):
        self._turns([{"tool_calls": [CALL]}], [{"content": "Seen."}])
        kept = self._goes_on()
        self._asked()
        # Two tools, and two answers of which nothing more follows; the family's threads tell of
        # a tool in one event more.
        is_family = hasattr(self.env["llm.thread"], "_generate_assistant_response")
        self.assertEqual((kept[-1], kept.count(False)), (False, 4 + is_family), kept)
        self.assertIn(True, kept)

    def test_rights_are_read_again_while_a_long_answer_is_written(self):
        kept = self._goes_on()
        self._asked()
        self.assertTrue(all(kept[:-1]) and kept[1:], kept)
        self.assertFalse(kept[-1], "what comes after the answer sees what others did")
        kept.clear()
        with patch.object(execute, "BELIEVED", 0.0):
            self._asked()
        self.assertTrue(kept and not any(kept), kept)


class TestToolsOnceInFamily(TestToolsOnce):
    """The same in a thread whose tools speak from within a savepoint, as the family's do."""

    allow_inherited_tests_method = True

    def setUp(self):
        super().setUp()
        play_family(self)
