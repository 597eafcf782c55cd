import socket
import time
from contextlib import contextmanager
from unittest.mock import patch

from odoo.exceptions import AccessError, UserError
from odoo.http import request
from odoo.tests import HttpCase, JsonRpcException, tagged
from odoo.tools import mute_logger

from ..exceptions import AuthenticationError, BadRequestError, QuotaExceededError, TransientError
from ..models import llm_provider_probe
from ..protocol import bounded_http
from ..runner.cursor import LazyCursor
from .common import ADDON, LlmGenerationCommon

KEY = "canary-key-of-a-probe-17"
EXTRA = "Extra inputs are not permitted"


class TestProviderProbe(LlmGenerationCommon):
    """What a manager is told of a provider that is asked while he waits."""

    def setUp(self):
        super().setUp()
        self.direct.api_key = KEY
        self.provider = self.direct.with_user(self.manager)

    def _listing(self, models):
        """Have the service list models; an exception is raised, a function called."""

        def list_models(provider, model_id=None):
            self.assertEqual(provider._read_api_key(), KEY)
            if isinstance(models, Exception):
                raise models
            # a generator, as some services of the family have it
            yield from models(provider) if callable(models) else models

        return self._offered(fakedirect_models=list_models)

    def _test(self):
        return self.provider.action_test()["params"]

    def test_each_mistake_is_a_sentence_that_says_what_to_correct(self):
        broken = ValueError(f"odd {KEY}")
        table = (
            (AuthenticationError("HTTP 401: No."), "HTTP 401: No. Correct “API Key”."),
            (TransientError("Nobody there."), "Nobody there. Check “"),
            (QuotaExceededError("Empty"), "Empty. The account there needs credit."),
            (ConnectionRefusedError("refused"), "refused. Check “"),
            (broken, "ValueError: odd [hidden]. Check “"),
        )
        logger = mute_logger(f"{ADDON}.models.llm_provider_probe")
        for error, sentence in table:
            with self.subTest(error=error), self._listing(error), logger:
                told = self._refusal(self.provider.action_fetch_models)
                self.assertIn(sentence, told)
                self.assertNotIn(KEY, told)
                params = self._test()
                self.assertFalse(params["is_fine"])
                self.assertEqual((params["message"], params["type"]), (told, "danger"))
        self.assertFalse(self.service.calls["chat"])

    def test_what_says_itself_what_to_do_is_told_as_it_is(self):
        with self._listing(UserError("Do this.")):
            self.assertEqual(self._refusal(self.provider.action_fetch_models), "Do this.")
        with self._listing(NotImplementedError("none")):
            self.assertIn("cannot list", self._refusal(self.provider.action_fetch_models))

    def test_a_test_lists_models_and_hears_one_word_of_the_default_model(self):
        counted = []

        @contextmanager
        def direct_answer(provider, thread=None, estimate=0):
            with inherited(provider, thread, estimate) as recorder:
                try:
                    yield recorder
                finally:
                    counted.append(recorder.usage)

        inherited = type(self.direct)._direct_answer
        self.service.chunks = [{"content": ""}, {"content": "OK"}, self.fail]
        with (
            self._listing([{"name": "Direct model", "details": {}}]),
            patch.object(type(self.direct), "_direct_answer", direct_answer),
        ):
            params = self._test()
        self.assertTrue(params["is_fine"], params)
        self.assertRegex(
            params["message"],
            r"^Models: 1, listed in 0\.\d\d s\. Direct model answered after 0\.\d\d s\.$",
        )
        self.assertEqual(len(self.service.calls["chat"]), 1)
        self.assertTrue(counted[0], "it is no direct answer, which budgets would count")
        self.assertFalse(self.env["llm.generation.job"].search([("user_id", "=", self.manager.id)]))

    def test_what_a_service_says_instead_of_a_word_is_told(self):
        for chunks, sentence in (
            ([{"error": f"No {KEY}."}], "No [hidden]."),
            ([AuthenticationError("Not this model")], "Not this model. Correct “API Key”."),
        ):
            self.service.chunks = chunks
            with self.subTest(sentence), self._listing([]):
                params = self._test()
                self.assertFalse(params["is_fine"])
                self.assertTrue(params["message"].endswith(sentence), params)

    def test_a_server_that_refuses_our_limit_is_asked_without(self):
        def chat(_provider, messages, model=None, max_completion_tokens=None, **kwargs):
            asked.append(max_completion_tokens)
            if max_completion_tokens:
                raise BadRequestError(EXTRA)
            yield {"content": "OK"}

        asked = []
        with self._offered(fakedirect_chat=chat), self._listing([]):
            params = self._test()
        self.assertTrue(params["is_fine"], params)
        self.assertEqual([bool(limit) for limit in asked], [True, False])

    def test_a_provider_without_models_takes_those_that_it_lists(self):
        self.direct_model.unlink()
        with self._listing([{"name": "tiny", "details": {}}, {"name": "big", "details": {}}]):
            params = self._test()
        self.assertTrue(params["is_fine"], params)
        self.assertEqual(set(self.direct.model_ids.mapped("name")), {"tiny", "big"})
        self.assertIn("They were added.", params["message"])
        self.assertEqual(len(self.service.calls["chat"]), 1)

    def test_a_service_without_a_list_is_asked_for_a_word(self):
        self.assertTrue(self._test()["is_fine"])
        self.direct_model.unlink()
        params = self._test()
        self.assertFalse(params["is_fine"])
        self.assertIn("no model", params["message"])

    def test_a_service_of_jobs_says_how_it_is_tried(self):
        params = self.native.with_user(self.manager).action_test()["params"]
        self.assertTrue(params["is_fine"])
        self.assertIn("ask something", params["message"])

    def test_nobody_waits_longer_than_the_bound(self):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            address = f"http://127.0.0.1:{silent.getsockname()[1]}/models"

            def ask(provider, _messages=None, **_how):
                self.assertEqual(provider._answer_seconds(), 0.2)
                bounded_http.request_json("GET", address, timeout=60)

            began = time.monotonic()
            with (
                self._patched(f"{llm_provider_probe.__name__}.PATIENCE", 0.2),
                self._listing(ask),
            ):
                told = self._refusal(self.provider.action_fetch_models)
                self.assertIn("did not answer within 0.2 seconds", told)
                with self._listing([]), self._offered(fakedirect_chat=ask):
                    self.assertIn("did not answer within 0.2 s", self._test()["message"])
            self.assertLess(time.monotonic() - began, 30)

    def test_a_client_of_a_library_asks_once_in_a_test(self):
        clients = []
        with (
            self._offered(fakedirect_get_client=lambda _provider: object()),
            self._patched(
                f"{ADDON}.models.llm_provider.for_one_try",
                lambda client, _seconds: clients.append(client) or client,
            ),
            self._listing(lambda provider: [{"name": str(provider.client), "details": {}}]),
        ):
            self.provider.action_fetch_models()
        self.assertEqual(len(clients), 1)

    def test_only_who_may_configure_a_provider_tests_it(self):
        with self._listing([]), self.assertRaises(AccessError):
            self.direct.with_user(self.user).action_test()
        self.assertFalse(self.service.calls["chat"])

    def test_the_form_has_the_button_for_managers(self):
        for user, has_button in ((self.manager, True), (self.user, False)):
            arch = self.direct.with_user(user).get_view(view_type="form")["arch"]
            self.assertEqual('name="action_test"' in arch, has_button)


@tagged("post_install", "-at_install")
class TestProviderProbeRequest(LlmGenerationCommon, HttpCase):
    """A manager who waits for a provider's answer keeps no connection and no transaction."""

    def setUp(self):
        super().setUp()
        self.direct_model.unlink()
        self.held = []
        self.authenticate(self.manager.login, self.manager.login)

    def _press(self, method, answer=None, record=None, args=()):
        """Press a button while each call of the service notes whether the request holds anything.

        :param answer: what the service raises, where it lists no models
        """
        record = self.direct if record is None else record

        def note(provider):
            cr = provider.env.cr
            is_free = isinstance(cr, LazyCursor) and cr._cursor is None and request.env.cr is cr
            self.held.append(not is_free)

        def list_models(provider, model_id=None):
            note(provider)
            if answer:
                raise answer
            return [{"name": "tiny", "details": {}}]

        def chat(provider, *_args, **_how):
            note(provider)
            yield {"content": "OK"}

        params = {
            "model": record._name,
            "method": method,
            "args": [record.ids, *args],
            "kwargs": {},
        }
        self.env.flush_all()
        with self._offered(fakedirect_models=list_models, fakedirect_chat=chat):
            action = self.make_jsonrpc_request("/web/dataset/call_button", params, timeout=60)
        self.env.invalidate_all()
        return action

    def test_a_test_holds_nothing_while_it_waits(self):
        params = self._press("action_test")["params"]
        self.assertTrue(params["is_fine"], params)
        self.assertEqual(self.held, [False, False])
        self.assertEqual(self.direct.model_ids.mapped("name"), ["tiny"])

    def test_the_test_of_an_incident_holds_nothing_while_it_waits(self):
        queue = self.env["llm.generation.queue"]._get_or_create_queue(self.direct)
        args = ["test", "transient", "2026-01-01 00:00:00"]
        params = self._press("press_incident_button", record=queue, args=args)["params"]
        self.assertTrue(params["is_fine"], params)
        self.assertEqual(self.held, [False, False])

    def test_fetching_models_holds_nothing_while_it_waits(self):
        known = self.native_model.copy({"provider_id": self.direct.id})
        buttons = [(self.direct, "action_fetch_models")]
        if hasattr(known, "action_open_fetch_this_model_wizard"):  # the family's
            buttons.append((known, "action_open_fetch_this_model_wizard"))
        for record, button in buttons:
            with self.subTest(button):
                action = self._press(button, record=record)
                wizard = self.env[action["res_model"]].browse(action["res_id"])
                self.assertEqual(wizard.sudo().line_ids.mapped("name"), ["tiny"])
                self.assertEqual(self.held, [False])
                self.held.clear()

    def test_a_request_that_fails_is_told_so_and_the_next_one_has_its_cursor(self):
        with self.assertRaises(JsonRpcException) as refusal, mute_logger("odoo.http"):
            self._press("action_fetch_models", AuthenticationError("HTTP 401: No."))
        self.assertIn("UserError", str(refusal.exception))
        self.assertEqual(self.held, [False])
        self.assertTrue(self._press("action_test")["params"]["is_fine"])

    def test_no_other_request_is_taken_for_one(self):
        """Whatever parameters somebody gives it: it would not be tried again after a conflict."""
        params = {"model": "llm.provider", "method": "action_test"}
        lent = patch.object(llm_provider_probe, "lend_lazy", side_effect=self.fail)
        with lent:
            answer = self.make_jsonrpc_request("/web/session/get_session_info", params)
        self.assertEqual(answer["uid"], self.manager.id)
