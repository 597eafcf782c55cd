from unittest.mock import patch

from odoo import fields
from odoo.exceptions import UserError
from odoo.tools import mute_logger

from ..models.llm_thread import MAX_TURNS
from .common import LlmThreadCommon, tool_call, words


class TestTools(LlmThreadCommon):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.tool = cls.env["llm.tool"].create({
            "name": "lookup",
            "description": "Looks something up",
            "implementation": "search_records",
        })
        cls.thread.tool_ids = cls.tool

    def setUp(self):
        super().setUp()
        self.executed = []

    def _execute_with(self, result):
        """Make tools give a result, or raise it."""
        test = self

        def execute(self, parameters):
            test.executed.append((self.env.user, self.env.su, parameters))
            if isinstance(result, Exception):
                raise result
            return result(self) if callable(result) else result

        patcher = patch.object(self.registry["llm.tool"], "execute", execute)
        patcher.start()
        self.addCleanup(patcher.stop)

    def _tool_data(self):
        return self._messages().filtered(lambda message: message.llm_role == "tool").body_json

    def test_a_tool_is_called_as_the_user_and_the_model_goes_on(self):
        self._execute_with({"day": fields.Date.to_date("2026-01-02")})

        events = self._ask([tool_call("lookup", '{"x": 1}')], words("Done"))

        self.assertEqual(self.executed, [(self.user, False, {"x": 1})])
        self.assertEqual(
            self._tool_data(),
            {
                "tool_call_id": "call_1",
                "tool_name": "lookup",
                "arguments": {"x": 1},
                "result": {"day": "2026-01-02"},
            },
        )
        self.assertEqual(
            [event["message"]["llm_role"] for event in events if event["type"] == "message_create"],
            ["user", "assistant", "tool", "assistant"],
        )
        self.assertEqual(self.asked[0]["tools"], self.tool)
        self.assertEqual(
            self.asked[1]["messages"].mapped("llm_role"), ["user", "assistant", "tool"]
        )

    def test_a_real_tool_sees_what_the_user_may_see(self):
        arguments = '{"model": "res.users", "domain": [["login", "=", "thread_user"]]}'

        self._ask([tool_call("lookup", arguments)], words("Done"))

        self.assertIn("thread_user", str(self._tool_data()["result"]))

    def test_a_failing_tool_tells_the_model(self):
        self._execute_with(UserError(self.env._("No such record.")))

        events = self._ask([tool_call("lookup")], words("Sorry"))

        self.assertEqual(self._tool_data()["error"], "No such record.")
        self.assertIn("Sorry", events[-1]["message"]["body"])

    def test_an_unexpected_failure_does_not_tell_its_text(self):
        self._execute_with(KeyError("password"))

        with mute_logger("odoo.addons.llm_thread.tool_runner"):
            self._ask([tool_call("lookup")], words("Sorry"))

        self.assertEqual(self._tool_data()["error"], "The tool failed for an internal reason.")

    def test_a_failing_tool_leaves_nothing_behind(self):
        refused = UserError(self.env._("No"))

        def write_and_fail(tool):
            tool.env["llm.thread"].create({"name": "Left", "provider_id": self.provider.id})
            raise refused

        self._execute_with(write_and_fail)

        self._ask([tool_call("lookup")], words("Sorry"))

        self.assertFalse(self.env["llm.thread"].search([("name", "=", "Left")]))

    def test_an_unknown_tool_and_bad_arguments_tell_the_model(self):
        self._execute_with("never")
        for call, text in (
            (tool_call("format_disk"), "There is no tool “format_disk”. The tools are: lookup."),
            (tool_call("lookup", "{x"), "not valid JSON"),
        ):
            with self.subTest(text=text):
                self.thread = self._create_thread(tool_ids=self.tool.ids)

                self._ask([call], words("Sorry"))

                self.assertIn(text, self._tool_data()["error"])
        self.assertFalse(self.executed)

    def test_all_calls_of_one_answer_are_run_in_order(self):
        self._execute_with("ok")
        calls = tool_call("lookup", '{"n": 1}', "a")["tool_calls"]
        calls += tool_call("lookup", '{"n": 2}', "b")["tool_calls"]

        self._ask([{"tool_calls": calls}], words("Done"))

        self.assertEqual([parameters["n"] for *_who, parameters in self.executed], [1, 2])
        self.assertEqual(self.asked[1]["messages"].mapped("llm_role")[2:], ["tool", "tool"])

    def test_a_call_is_told_before_its_tool_runs_and_with_its_result_after_it(self):
        found = []

        def look(tool):
            found.append((list(self._tool_data().items()), len(events)))
            return "ok"

        self._execute_with(look)
        self.answers = [[tool_call("lookup")], words("Done")]
        events = []
        for event in self.thread.generate("Hi"):
            events.append(event)

        mark = {"tool_call_id": "call_1", "tool_name": "lookup", "status": "executing"}
        [(data, told)] = found
        self.assertEqual(dict(data), mark)
        of_tool = [event for event in events if event["message"]["llm_role"] == "tool"]
        self.assertEqual([event["type"] for event in of_tool], ["message_create", "message_update"])
        self.assertIs(events[told - 1], of_tool[0])
        self.assertEqual(of_tool[1]["message"]["body_json"]["result"], "ok")

    def test_arguments_may_be_an_object(self):
        self._execute_with("ok")

        self._ask([tool_call("lookup", {"x": 1})], words("Done"))

        self.assertEqual(self._tool_data()["arguments"], {"x": 1})

    def test_turns_of_an_answer_that_broke_off_count(self):
        self._execute_with("again")
        calls = [[tool_call("lookup", call_id=f"call_{turn}")] for turn in range(MAX_TURNS - 2)]
        self.answers = [*calls, [UserError("Broken.")]]
        self._fail(self.thread.generate("Hi"), UserError)
        self.asked.clear()

        self.answers = [[tool_call("lookup", call_id="last")], words("Done")]
        list(self.thread.generate())

        self.assertEqual([bool(asked["tools"]) for asked in self.asked], [True, False])

    def test_the_loop_is_bounded_and_the_last_turn_has_no_tools(self):
        self._execute_with("again")
        calls = [[tool_call("lookup", call_id=f"call_{turn}")] for turn in range(MAX_TURNS)]

        self._ask(*calls)

        self.assertEqual(len(self.asked), MAX_TURNS)
        self.assertEqual(len(self.executed), MAX_TURNS - 1)
        self.assertEqual([bool(asked["tools"]) for asked in self.asked], [True] * 9 + [False])
