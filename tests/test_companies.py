import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

from odoo import Command
from odoo.exceptions import AccessError, ValidationError
from odoo.tests import new_test_user

from ..const import BUS_QUEUE_CHANNEL, BUS_QUEUE_UPDATE, MAX_RETRIES
from .common import user_groups
from .test_ownership import OwnershipCommon

MIGRATIONS = Path(__file__).parents[1] / "migrations" / "19.0.1.1.0"


class CompaniesCommon(OwnershipCommon):
    """Two companies that share a provider.

    `native` belongs to nobody here, and is used by two companies with a manager each; `admin` has
    settings rights, and works in both.
    """

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.first = cls.env.company
        cls.second = cls.env["res.company"].create({"name": "Second"})
        there = {"company_id": cls.second.id, "company_ids": [Command.set(cls.second.ids)]}
        cls.second_user = new_test_user(cls.env, "second_user", user_groups(cls.env), **there)
        cls.second_manager = new_test_user(
            cls.env, "second_manager", "llm.group_llm_manager", **there
        )
        cls.admin.company_ids += cls.second
        if not cls.native._fields["company_id"].required:
            cls.native.company_id = False
        cls.native.sudo().api_key = "shared-key-of-all"
        cls.env.flush_all()
        cls.second_thread = cls._create_thread(user=cls.second_user)
        cls.first_thread = cls._create_thread(user=cls.user)

    def _jobs(self, state, count=1):
        """Return jobs of the first and of the second company in one shared queue."""
        first, second = (
            self.env["llm.generation.job"].union(
                *(
                    self._create_job(state, thread_id=thread.id, user=thread.user_id)
                    for _number in range(count)
                )
            )
            for thread in (self.first_thread, self.second_thread)
        )
        return first, second

    def _in_second(self, records):
        """Return records as the administrator has them who looks at the second company only."""
        return records.with_user(self.admin).with_context(allowed_company_ids=self.second.ids)


class TestCompanies(CompaniesCommon):
    """No company is not everybody's company."""

    def setUp(self):
        super().setUp()
        self._needs(not self.native.company_id, "whose providers all companies can share")

    # === LIMITS === #

    def test_no_limit_is_pushed_onto_another_company(self):
        mine, model = self._create_provider("Mine", "fakenative")
        theirs, their_model = self._create_provider("Theirs", "fakenative")
        mine.company_id, theirs.company_id = self.first, self.second
        my_queue, their_queue = map(
            self.env["llm.generation.queue"]._get_or_create_queue, (mine, theirs)
        )
        limit = self.env["llm.generation.model.limit"].create({
            "queue_id": my_queue.id,
            "model_id": model.id,
        })
        aims = ((their_queue, their_model), (self.queue, self.native_model))
        for queue, aimed in aims:
            values = {"queue_id": queue.id, "model_id": aimed.id}
            with self.subTest(queue=queue.provider_id.name):
                self._assert_refused(self._rpc(self.manager, limit, "write", values))
                self._assert_refused(self._rpc(self.manager, limit, "create", values))
                moved = {"model_limit_ids": [Command.link(limit.id)]}
                self._assert_refused(self._rpc(self.manager, queue, "write", moved))
                self.assertEqual((limit.queue_id, limit.model_id), (my_queue, model))
                self.assertFalse(queue.model_limit_ids)
        second = model.copy({"name": "Second of mine"})
        self.assertTrue(self._rpc(self.manager, limit, "write", {"model_id": second.id}))
        self.assertEqual(limit.model_id, second)

    def test_a_limit_is_of_a_model_of_its_queue(self):
        mine, model = self._create_provider("Mine", "fakenative")
        queue = self.env["llm.generation.queue"]._get_or_create_queue(mine)
        Limit = self.env["llm.generation.model.limit"]
        foreign = {"model_id": self.native_model.id}
        with self.assertRaisesRegex(ValidationError, "provider of its queue"):
            Limit.create({"queue_id": queue.id, **foreign})
        limit = Limit.create({"queue_id": queue.id, "model_id": model.id})
        with self.assertRaisesRegex(ValidationError, "provider of its queue"):
            limit.write(foreign)

    # === WHOSE A RECORD IS === #

    def test_a_conversation_and_a_job_belong_to_the_company_of_their_user(self):
        first, second = self._jobs("queued")
        self.assertFalse(self.queue.company_id)
        self.assertEqual(self.first_thread.company_id, self.first)
        self.assertEqual(self.second_thread.company_id, self.second)
        self.assertEqual((first.company_id, second.company_id), (self.first, self.second))

    def test_who_has_several_companies_works_in_one_of_them(self):
        for company in (self.first, self.second):
            allowed = {"allowed_company_ids": company.ids}
            threads = self.env["llm.thread"].with_user(self.admin).with_context(**allowed)
            thread = threads.create({
                "name": "Here",
                "provider_id": self.native.id,
                "model_id": self.native_model.id,
            })
            job = (
                self
                .env["llm.generation.job"]
                .with_user(self.admin)
                .create({"thread_id": thread.id})
            )
            with self.subTest(company=company.name):
                self.assertEqual((thread.company_id, job.company_id), (company, company))

    def test_a_job_belongs_to_no_company_that_its_user_is_not_in(self):
        self.direct.company_id = self.second
        thread = self.env["llm.thread"].create({
            "name": "By code",
            "user_id": self.user.id,
            "provider_id": self.direct.id,
            "model_id": self.direct_model.id,
        })
        job = self._create_job(thread_id=thread.id)
        self.assertEqual(job.company_id, self.first)
        self.assertEqual(job.thread_id.company_id, self.first)
        # Without a conversation, whose company would be the user's as well, the provider's is left.
        self.assertEqual(job._company_of(self.user, self.direct), self.first)

    def test_a_conversation_keeps_its_company_and_uses_no_providers_of_others(self):
        self.direct.company_id = self.second
        for values in (
            {"company_id": self.second.id},
            {"provider_id": self.direct.id, "model_id": self.direct_model.id},
        ):
            self._assert_refused(self._rpc(self.user, self.first_thread, "write", values))
        values = {"provider_id": self.direct.id, "model_id": self.direct_model.id, "name": "x"}
        self._assert_refused(self._rpc(self.user, self.first_thread.browse(), "create", values))
        self.assertEqual(self.first_thread.company_id, self.first)

    def test_a_new_provider_belongs_to_the_company_where_it_is_made(self):
        values = {"name": "New", "service": "fakenative"}
        made = self._rpc(self.second_manager, self.native.browse(), "create", values)
        self.assertEqual(self.native.browse(made).company_id, self.second)

    # === WHO SEES IT === #

    def test_a_manager_of_another_company_sees_and_writes_nothing_of_a_shared_provider(self):
        job = self._create_job("running", thread_id=self.first_thread.id)
        job.action_fail("It broke.")
        message = self.first_thread.message_post(body="Private", llm_role="user")
        report = self.env["llm.generation.report"].browse(job.id)
        for record in (self.first_thread, job, job.attempt_ids, message, report):
            with self.subTest(model=record._name):
                self._assert_refused(self._rpc(self.second_manager, record, "read", ["id"]))
                found = self._rpc(
                    self.second_manager, record.browse(), "search", [("id", "in", record.ids)]
                )
                self.assertFalse(found)
                for method in ("write", "unlink"):
                    arguments = [{"name": "Mine"}] if method == "write" else []
                    result = self._rpc(self.second_manager, record, method, *arguments)
                    self._assert_refused(result)
        for method in ("action_cancel", "action_retry", "action_queue", "check_status"):
            self._assert_refused(self._rpc(self.second_manager, job, method))

    # === WHO CONFIGURES WHAT IS SHARED === #

    def test_what_is_shared_is_configured_by_who_has_settings_rights(self):
        limits = self.env["llm.generation.model.limit"]
        limit = limits.create({"queue_id": self.queue.id, "model_id": self.native_model.id})
        second_model = self.native_model.copy({"name": "Second"})
        publisher = self.env["llm.publisher"].create({"name": "P"})
        writes = [
            (self.native, {"api_base": "https://evil.example"}),
            (self.native, {"api_key": "mine"}),
            (self.native, {"company_id": self.second.id}),
            (self.native, {"active": False}),
            (self.native, {"model_ids": [Command.update(self.native_model.id, {"name": "x"})]}),
            (self.native_model, {"details": {"input_schema": {}}}),
            (self.queue, {"enabled": False}),
            (self.queue, {"max_concurrent_jobs": 99}),
            (self.queue, {"new_webhook_secret": "c2VjcmV0"}),
            (self.queue, {"model_limit_ids": [Command.delete(limit.id)]}),
            (limit, {"max_concurrent_jobs": 99}),
            (self.tool, {"description": "Do as I say"}),
            (self.tool, {"implementation": "server_action"}),
            (publisher, {"name": "Q"}),
        ]
        creates = [
            (self.native, {"name": "N", "service": "fakenative", "company_id": False}),
            (self.native_model, {"name": "n", "provider_id": self.native.id}),
            (limit, {"queue_id": self.queue.id, "model_id": second_model.id}),
            (self.tool, {"name": "t", "description": "d", "implementation": "search_records"}),
            (publisher, {"name": "R"}),
        ]
        for user, may in ((self.manager, False), (self.second_manager, False), (self.admin, True)):
            for record, values in writes:
                with self.subTest(user=user.login, write=values, model=record._name):
                    result = self._undone(user, record, "write", values)
                    self.assertEqual(not isinstance(result, Exception), may, result)
            for record, values in creates:
                with self.subTest(user=user.login, create=values, model=record._name):
                    result = self._undone(user, record.browse(), "create", values)
                    self.assertEqual(not isinstance(result, Exception), may, result)
            for record in (limit, second_model, self.tool, publisher):
                with self.subTest(user=user.login, unlink=record._name):
                    result = self._undone(user, record, "unlink")
                    self.assertEqual(not isinstance(result, Exception), may, result)
            for method, *arguments in (
                ("action_enable",),
                ("action_disable",),
                ("action_process_queue",),
                ("action_clear_queue",),
                ("action_retry_failed_jobs",),
                ("action_bulk_clear",),
                ("action_bulk_retry_failed",),
                ("action_remove_webhook_secret",),
                ("press_dashboard_button", "pause"),
                ("press_dashboard_button", "clear"),
            ):
                with self.subTest(user=user.login, method=method):
                    result = self._undone(user, self.queue, method, *arguments)
                    self.assertEqual(not isinstance(result, Exception), may, result)

    def _undone(self, user, records, method, *args):
        """Execution, and take back what was done."""
        with self.env.cr.savepoint() as savepoint:
            result = self._rpc(user, records, method, *args)
            savepoint.rollback()
        self.env.invalidate_all()
        return result

    def test_a_manager_shares_nothing_and_gives_nothing_away(self):
        provider = self.env["llm.provider"].create({"name": "Own", "service": "fakenative"})
        model = self.env["llm.model"].create({"name": "m", "provider_id": provider.id})
        self.assertEqual(provider.company_id, self.first)
        for company_id in (False, self.second.id):
            values = {"company_id": company_id}
            self._assert_refused(self._rpc(self.manager, provider, "write", values))
        self._assert_refused(self._rpc(self.manager, provider, "copy", {"company_id": False}))
        values = {"provider_id": self.native.id}
        self._assert_refused(self._rpc(self.manager, model, "write", values))
        self.assertIs(self._rpc(self.manager, provider, "write", {"name": "Mine"}), True)
        self.assertIs(self._rpc(self.manager, model, "write", {"name": "mine"}), True)

    def test_a_card_of_a_shared_queue_has_buttons_for_who_may_press_them(self):
        self._jobs("queued")
        for user, may in ((self.second_manager, False), (self.admin, True)):
            dashboard = self._rpc(user, self.queue.browse(), "get_dashboard")
            [card] = [card for card in dashboard["cards"] if card["id"] == self.queue.id]
            with self.subTest(user=user.login):
                self.assertEqual(bool(card["buttons"]), may)

    # === BULK ACTIONS === #

    def test_clearing_a_shared_queue_leaves_the_jobs_of_others(self):
        first, second = self._jobs("queued", 3)
        with patch("odoo.addons.llm_generate_job.engine.maintain.CANCEL_BATCH", 2):
            self.assertEqual(self._in_second(self.queue).action_clear_queue(), 3)
        self.assertEqual(set(first.mapped("state")), {"queued"})
        self.assertEqual(set(second.mapped("state")), {"cancelled"})

    def test_retrying_in_a_shared_queue_leaves_the_jobs_of_others(self):
        first, second = self._jobs("failed", 2)
        self.assertEqual(self._in_second(self.queue).action_retry_failed_jobs(), 2)
        self.assertEqual(set(first.mapped("state")), {"failed"})
        self.assertEqual(set(second.mapped("state")), {"queued"})

    def test_bulk_actions_say_how_much_they_leave(self):
        for state, method in (
            ("queued", "action_bulk_clear"),
            ("failed", "action_bulk_retry_failed"),
        ):
            first, second = self._jobs(state, 2)
            params = getattr(self._in_second(self.queue), method)()["params"]
            with self.subTest(method=method):
                self.assertEqual((set(params["ids"]), params["left"]), (set(second.ids), 2))
                both = {"allowed_company_ids": (self.first | self.second).ids}
                queue = self.queue.with_user(self.admin).with_context(**both)
                self.assertNotIn("left", getattr(queue, method)()["params"])
            (first | second).sudo().unlink()

    def test_a_bulk_action_refuses_jobs_that_one_may_not_see(self):
        first, second = self._jobs("queued")
        for what in ("cancel", "prioritize"):
            result = self._rpc(self.second_manager, first | second, "apply_bulk", what)
            self.assertIsInstance(result, AccessError)
        self.assertEqual(set((first | second).mapped("state")), {"queued"})

    # === WHAT ONE HEARS OF OTHERS === #

    def _sent(self):
        """Return the channels and payloads of what was said of queues since the last call."""
        values = self.env.cr.precommit.data.setdefault("bus.bus.values", [])
        sent = [(json.loads(value["channel"]), json.loads(value["message"])) for value in values]
        values.clear()
        return [
            (channel[1:], message["payload"]["provider_ids"])
            for channel, message in sent
            if message["type"] == BUS_QUEUE_UPDATE
        ]

    def test_managers_hear_of_the_queues_of_their_companies_only(self):
        self.env["bus.bus"]._ensure_hooks()
        self._sent()
        self.direct.company_id = self.second
        job = self._create_job("queued", model=self.direct_model, user=self.second_user)
        self.env["llm.generation.engine"]._send_outbox(job.ids)
        self.direct_queue.sudo().enabled = False
        for channel, providers in self._sent():
            self.assertEqual(channel, ["res.company", self.second.id, BUS_QUEUE_CHANNEL])
            self.assertEqual(providers, self.direct.ids)
        shared = self._create_job("queued", thread_id=self.first_thread.id)
        self.env["llm.generation.engine"]._send_outbox(shared.ids)
        group = self.env.ref("llm.group_llm_manager")
        self.assertIn((["res.groups", group.id], self.native.ids), self._sent())

    def test_managers_listen_to_their_companies_and_others_do_not(self):
        socket = self.env["ir.websocket"]
        for user, companies in (
            (self.user, self.env["res.company"]),
            (self.second_manager, self.second),
            (self.admin, self.first | self.second),
        ):
            request = SimpleNamespace(session=SimpleNamespace(uid=user.id))
            with patch("odoo.addons.bus.models.ir_websocket.request", request):
                channels = socket.with_user(user)._build_bus_channel_list([])
            heard = [
                one[0].id
                for one in channels
                if isinstance(one, tuple) and one[1] == BUS_QUEUE_CHANNEL
            ]
            with self.subTest(user=user.login):
                self.assertEqual(sorted(heard), sorted(companies.ids))

    def test_shared_figures_name_nobody_of_another_company(self):
        first, _second = self._jobs("failed")
        first.sudo().write({"error_message": "Of the first company"})
        queue = self.queue.with_user(self.second_manager)
        told = [
            queue.get_queue_stats(),
            queue.get_dashboard(),
            queue.read([name for name, field in queue._fields.items() if not field.groups]),
            self.native.with_user(self.second_manager).get_generation_queue_info(),
        ]
        self.assertNotIn(first, queue.recent_job_ids)
        self.assertNotIn("first company", repr(told))
        self.assertNotIn(self.user.name, repr(told))

    def test_what_one_may_see_of_a_queue_is_not_what_code_saw_before(self):
        first, second = self._jobs("queued")
        self.assertLessEqual(first | second, self.queue.sudo().recent_job_ids)
        seen = self.queue.with_user(self.second_manager).recent_job_ids
        self.assertEqual(seen & (first | second), second)

    # === FROM BEFORE === #

    def _migrate(self, name):
        spec = importlib.util.spec_from_file_location(name, MIGRATIONS / f"{name}-migration.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.migrate(self.env.cr, "19.0.1.0.0")
        self.env.invalidate_all()

    def test_jobs_from_before_get_the_company_of_their_user(self):
        first, second = self._jobs("queued")
        rule = self.env.ref("llm_generate_job.llm_generation_job_rule_company")
        strict = rule.domain_force
        rule.domain_force = strict.replace("company_ids", "company_ids + [False]")
        self.env.flush_all()
        ids = (first | second).ids
        self.env.cr.execute(
            "UPDATE llm_generation_job SET company_id = NULL WHERE id = ANY(%s)", [ids]
        )
        self._migrate("post")
        self.assertEqual((first.company_id, second.company_id), (self.first, self.second))
        self.assertEqual(rule.domain_force, strict)

    def test_retries_from_before_are_bounded(self):
        job = self._create_job()
        self.env.flush_all()
        self.env.cr.execute(
            "ALTER TABLE llm_generation_job DROP CONSTRAINT llm_generation_job_max_retries_bounded"
        )
        self.env.cr.execute(
            "UPDATE llm_generation_job SET max_retries = 5000 WHERE id = %s", [job.id]
        )
        self._migrate("pre")
        self.assertEqual(job.max_retries, MAX_RETRIES)
