from ast import literal_eval
from datetime import datetime, timedelta

from lxml import etree

from odoo import fields
from odoo.exceptions import AccessError, UserError
from odoo.fields import Domain
from odoo.tools.safe_eval import safe_eval

from ..const import BUS_QUEUE_UPDATE
from .common import LlmGenerationCommon


class TestLlmGenerationDashboard(LlmGenerationCommon):
    def _dashboard(self, user=None):
        return self.env["llm.generation.queue"].with_user(user or self.manager).get_dashboard()

    def _card(self, queue=None, user=None):
        queue = queue or self.queue
        return next(card for card in self._dashboard(user)["cards"] if card["id"] == queue.id)

    def _buttons(self, user=None):
        """Return the buttons that can do something; the others say why they cannot."""
        buttons = self._card(user=user)["buttons"]
        return [button["name"] for button in buttons if not button["reason"]]

    def _ended(self, state, ago, **values):
        """Create a job that ended some time ago."""
        return self.env["llm.generation.job"].create({
            "thread_id": self._create_thread().id,
            "user_id": self.user.id,
            "state": state,
            "completed_at": datetime.now() - ago,
            **values,
        })

    # === CARDS === #

    def test_a_card_tells_what_a_queue_does(self):
        self.queue.max_concurrent_jobs = 3
        self._create_job("running")
        self._create_job("queued").sudo().queued_at = datetime.now() - timedelta(minutes=1)
        self._create_job("queued", scheduled_at=datetime.now() + timedelta(hours=1))
        card = self._card()
        self.assertEqual((card["name"], card["running"], card["limit"]), ("Native", 1, 3))
        self.assertEqual((card["waiting"], card["delayed"]), (2, 1))
        self.assertAlmostEqual(card["oldest_wait"], 60, delta=20)
        self.assertEqual((card["ended"], card["success_rate"]), (0, False))
        self.assertEqual((card["health"], card["health_label"]), ("healthy", "Healthy"))
        self.assertEqual(card["reason"], "Ready. Nothing has ended in the last 24 hours.")

    def test_a_job_for_later_does_not_wait_yet(self):
        self._create_job("queued", scheduled_at=datetime.now() + timedelta(hours=1))
        card = self._card()
        self.assertEqual((card["waiting"], card["delayed"], card["oldest_wait"]), (1, 1, 0))

    def test_the_hours_of_a_day_come_oldest_first(self):
        self._ended("completed", timedelta(minutes=5))
        self._ended("failed", timedelta(minutes=59))
        self._ended("completed", timedelta(hours=1, minutes=5))
        self._ended("cancelled", timedelta(hours=3))
        self._ended("completed", timedelta(hours=23, minutes=50))
        self._ended("completed", timedelta(hours=24, minutes=1))
        hours = self._card()["by_hour"]
        self.assertEqual(len(hours), 24)
        self.assertEqual((hours[-1], hours[-2], hours[0]), ([1, 1], [1, 0], [1, 0]))
        self.assertEqual(sum(map(sum, hours)), 4)

    def test_a_job_that_ends_now_counts_at_once(self):
        self._create_job("completed")
        self.assertEqual(self._card()["by_hour"][-1], [1, 0])

    def test_tokens_are_those_of_the_users_day(self):
        """At 23:30 UTC it is half past midnight in Paris, and half past six in New York."""
        job = self._ended("completed", timedelta())
        now = fields.Datetime.to_datetime("2026-01-15 23:30:00")
        job.sudo().write({
            "completed_at": now - timedelta(hours=1),
            "prompt_tokens": 30,
            "completion_tokens": 12,
        })
        Figures = self.env["llm.generation.engine"]
        for zone, tokens in (("Europe/Paris", 0), ("America/New_York", 42)):
            with self.subTest(zone), self._at(now):
                figures = Figures.with_context(tz=zone)._statistics(self.queue)[self.queue.id]
                self.assertEqual(figures["tokens_today"], tokens)

    def test_a_day_begins_at_midnight_though_the_clock_was_changed_since(self):
        job = self._ended("completed", timedelta(), prompt_tokens=42)
        figures = self.env["llm.generation.engine"].with_context(tz="Europe/Berlin")
        # 23:30 and 0:30 there, before the hour was skipped, or had twice.
        for ended, now, tokens in (
            ("2026-03-28 22:30:00", "2026-03-29 10:00:00", 0),
            ("2026-03-28 23:30:00", "2026-03-29 10:00:00", 42),
            ("2026-10-24 21:30:00", "2026-10-25 10:00:00", 0),
            ("2026-10-24 22:30:00", "2026-10-25 10:00:00", 42),
        ):
            job.sudo().completed_at = ended
            with self.subTest(ended), self._at(fields.Datetime.to_datetime(now)):
                told = figures._statistics(self.queue)[self.queue.id]
                self.assertEqual(told["tokens_today"], tokens)

    def _at(self, now):
        class Clock(datetime):
            @classmethod
            def now(cls, tz=None):
                return now.replace(tzinfo=tz)

        return self._patched("odoo.addons.llm_generate_job.engine.statistics.datetime", Clock)

    def test_a_pause_is_counted_down(self):
        self.queue.paused_until = fields.Datetime.now() + timedelta(seconds=90)
        self.assertAlmostEqual(self._card()["cooldown"], 90, delta=2)
        self.queue.enabled = False  # it would not go on then
        self.assertEqual(self._card()["cooldown"], 0)
        self.queue.enabled = True
        self.assertTrue(self.queue.is_cooling)
        self.queue.paused_until = fields.Datetime.now() - timedelta(seconds=90)
        self.assertEqual(self._card()["cooldown"], 0)
        self.assertFalse(self.queue.is_cooling)

    def test_trouble_comes_first(self):
        self.direct_queue.refused_by = "quota"
        self.queue.enabled = False
        cards = self._dashboard()["cards"]
        self.assertEqual((cards[0]["id"], cards[-1]["id"]), (self.direct_queue.id, self.queue.id))

    def test_totals_are_those_of_all_queues(self):
        before = self._dashboard()["totals"]
        self._create_job("running")
        self._create_job("running", self.direct_model)
        self._ended("completed", timedelta(minutes=1), prompt_tokens=10)
        self._ended("failed", timedelta(hours=2))
        totals = self._dashboard()["totals"]
        grown = {name: totals[name] - before[name] for name in ("running", "ended", "failed")}
        self.assertEqual(grown, {"running": 2, "ended": 2, "failed": 1})
        self.assertEqual(totals["success_rate"], 100 * (1 - totals["failed"] / totals["ended"]))
        self.queue.write({"enabled": False, "max_concurrent_jobs": 7})
        slots = self._dashboard()["totals"]["limit"]
        self.assertEqual(totals["limit"] - slots, 4)  # a disabled queue offers none that is free
        counted = sum(part["count"] for part in totals["health"])
        self.assertEqual(counted, len(self._dashboard()["cards"]))

    def test_queues_of_other_companies_are_not_shown(self):
        company = self.env["res.company"].create({"name": "Elsewhere"})
        self.native.company_id = company
        names = [card["name"] for card in self._dashboard()["cards"]]
        self.assertIn("Direct", names)
        self.assertNotIn("Native", names)

    def test_no_queue_adds_a_statement(self):
        def statements():
            with self._knowing_nothing():
                before = self.env.cr.sql_log_count
                self._dashboard()
                return self.env.cr.sql_log_count - before

        self._create_job("queued")
        statements()
        few = statements()
        for number in range(5):
            provider, _model = self._create_provider(f"More {number}", "fakedirect")
            self.env["llm.generation.queue"]._get_or_create_queue(provider)
        statements()  # new providers may empty Odoo's own caches
        self.assertEqual(statements(), few)

    # === BUTTONS === #

    def test_what_cannot_be_done_says_why(self):
        def reasons():
            return {button["name"]: button["reason"] for button in self._card()["buttons"]}

        nothing = {
            "process": "No job waits.",
            "pause": "",
            "retry": "No failed job can be retried.",
            "clear": "No job waits.",
        }
        self.assertEqual(reasons(), nothing)
        self._create_job("queued")
        self.queue.enabled = False
        paused = {"process": "The queue is paused. Resume it first.", "resume": "", "clear": ""}
        self.assertEqual(reasons(), paused | {"retry": nothing["retry"]})
        self.queue.enabled = True
        self.native.active = False
        self.assertIn("archived", reasons()["process"])

    def test_trouble_has_a_way_to_it(self):
        self.assertNotIn("look", self._buttons())
        for _job in range(5):
            self._create_job("failed")
        self.assertIn("look", self._buttons())
        self.assertEqual(self._press("look")["context"], {"search_default_failed": 1})
        self.queue.refused_by = "quota"
        self.assertEqual(self._buttons().count("look"), 1)
        self.assertEqual(self._press("look")["res_model"], "llm.provider")

    def test_only_buttons_that_can_do_something_can_be_pressed(self):
        self.assertEqual(self._buttons(), ["pause"])
        job = self._create_job("queued")
        self.assertEqual(self._buttons(), ["process", "pause", "clear"])
        self.queue.enabled = False
        self.assertEqual(self._buttons(), ["resume", "clear"])
        job.action_cancel()
        self._create_job("failed").sudo().error_type = "content_refused"
        self.assertEqual(self._buttons(), ["resume"])
        self._create_job("failed", max_retries=0)
        self.assertEqual(self._buttons(), ["resume", "retry"])

    def test_what_starts_nothing_cannot_be_processed(self):
        self._create_job("queued")
        self.native.active = False
        self.assertEqual(self._buttons(), ["pause", "clear"])

    def test_a_pause_can_be_ended(self):
        self.queue.paused_until = fields.Datetime.now() + timedelta(hours=1)
        self.assertEqual(self._buttons(), ["process", "pause"])
        self._press("process")
        self.assertFalse(self.queue.paused_until)

    def test_a_pause_of_a_model_can_be_ended(self):
        pauses = self.env["llm.generation.model.pause"]
        pauses.create({
            "queue_id": self.queue.id,
            "model_id": self.native_model.id,
            "paused_until": fields.Datetime.now() + timedelta(hours=1),
        })
        self.assertEqual(self._buttons(), ["process", "pause"])
        self._press("process")
        self.assertFalse(pauses.search([("queue_id", "=", self.queue.id)]))
        self.assertEqual(self._buttons(), ["pause"])

    def _press(self, button, user=None):
        queue = self.queue.with_user(user or self.manager)
        return queue.press_dashboard_button(button)

    def test_buttons_do_what_they_say(self):
        self.assertIn("starts nothing more", self._press("pause"))
        self.assertFalse(self.queue.enabled)
        self.assertIn("starts jobs again", self._press("resume"))
        self.assertTrue(self.queue.enabled)

    def test_buttons_for_many_jobs_leave_them_to_the_bulk_action(self):
        failed, waiting = self._create_job("failed"), self._create_job("queued")
        for button, jobs in (("retry", failed), ("clear", waiting)):
            with self.subTest(button):
                action = self._press(button)
                self.assertEqual(action["tag"], "llm_generation_bulk")
                params = {"what": button, "value": None, "ids": jobs.ids}
                self.assertEqual(action["params"], params)
        self.assertEqual((failed.state, waiting.state), ("failed", "queued"))

    def test_what_waits_or_runs_under_the_key_of_a_failed_job_hides_retry(self):
        self._create_job("failed", identity_key="key")
        self.assertIn("retry", self._buttons())
        live = self._create_job("queued", identity_key="key")
        self.assertNotIn("retry", self._buttons())
        live.action_cancel()
        self.assertIn("retry", self._buttons())

    def test_the_form_has_the_buttons_of_the_card(self):
        self._create_job("queued")
        queue = self.queue.with_user(self.manager)
        self.assertEqual(queue.buttons, self._card()["buttons"])
        self.assertFalse(self.queue.with_user(self.user).buttons)
        self.queue.action_disable()
        self.assertEqual(queue.buttons, self._card()["buttons"])

    def _ways_to_trouble(self):
        """Return the links that the form shows to a manager."""
        queue = self.queue.with_user(self.manager)
        queue.invalidate_recordset()
        values = {name: queue[name] for name in ("buttons", "refused_by")}
        arch = etree.fromstring(queue.get_view(view_type="form")["arch"])
        return [
            link.get("string")
            for link in arch.xpath("//button[@name='action_open_trouble']")
            if not safe_eval(link.get("invisible"), values)
        ]

    def test_who_may_not_configure_a_queue_finds_its_trouble_too(self):
        shared = not self.native._fields["company_id"].required
        self._needs(shared, "whose providers all companies can share")
        self.assertFalse(self._ways_to_trouble())  # it has a button
        self.native.company_id = False
        self.assertEqual(self._ways_to_trouble(), ["Show What Failed"])
        self.queue.refused_by = "quota"
        self.assertEqual(self._ways_to_trouble(), ["Open the Provider"])

    def test_an_unknown_button_is_refused(self):
        with self.assertRaisesRegex(UserError, "Reload the page"):
            self._press("unlink")

    def test_a_user_presses_no_button(self):
        self._create_job("queued")
        for button in ("process", "pause", "resume", "retry", "clear", "unlink"):
            with self.subTest(button), self.assertRaises(AccessError):
                self._press(button, self.user)

    # === OPEN JOBS === #

    def _opened(self, action):
        """Return the jobs that an action shows, with the filters that it begins with."""
        arch = etree.fromstring(self.env["llm.generation.job"].get_view(view_type="search")["arch"])
        domain = Domain(action["domain"])
        for key in action["context"]:
            name = key.removeprefix("search_default_")
            [found] = arch.xpath(f"//filter[@name='{name}']")
            domain &= Domain(literal_eval(found.get("domain")))
        return self.env["llm.generation.job"].with_user(self.manager).search(domain)

    def test_what_a_card_counts_is_what_it_opens(self):
        running, waiting = self._create_job("running"), self._create_job("queued")
        lately = self._ended("failed", timedelta(hours=23))
        lately += self._ended("completed", timedelta(minutes=1))
        self._ended("cancelled", timedelta(hours=1))
        self._ended("failed", timedelta(hours=25))
        self._create_job("running", self.direct_model)
        card = self._card()
        opened = self._opened(self.queue.action_view_jobs())
        self.assertEqual(opened, (running + waiting + lately).sorted("id", reverse=True))
        self.assertEqual(len(opened), card["running"] + card["waiting"] + card["ended"])

    def test_jobs_of_today_are_those_that_are_counted(self):
        self._create_job("running")
        self._ended("completed", timedelta())
        self._ended("cancelled", timedelta())
        self._ended("failed", timedelta(days=2))
        opened = self._opened(self.queue.action_view_jobs_of_today())
        self.assertEqual(len(opened), 3)
        self.assertEqual(len(opened), self.queue.total_jobs_today)

    # === INCIDENTS === #

    def _incidents(self, user=None):
        return self._dashboard(user)["incidents"]

    def _press_incident(self, incident, button, user=None):
        queue = self.env["llm.generation.queue"].browse(incident["queue_id"])
        return queue.with_user(user or self.manager).press_incident_button(
            button, incident["error_type"], incident["since"]
        )

    def test_failures_are_told_by_provider_and_cause(self):
        for ago, values in (
            (3, {"error_type": "transient", "error_message": "HTTP 500: Oh."}),
            (2, {"error_type": "transient", "error_message": "HTTP 503: Not now."}),
            (1, {"error_type": "timeout", "error_message": "No answer."}),
            (25 * 60, {"error_type": "transient", "error_message": "Long ago."}),
        ):
            self._ended("failed", timedelta(minutes=ago), **values)
        self._ended("failed", timedelta(minutes=1), error_type="transient",
                    user_id=self.manager.id,
                    thread_id=self._create_thread(user=self.manager).id)  # fmt: skip
        many, one = self._incidents()
        self.assertRegex(many["title"], r"^Since .+: 3 jobs of 2 users, Native: Temporary failure$")
        self.assertEqual(many["error_type"], "transient")
        self.assertRegex(one["title"], r"^Since .+: 1 job of 1 user, Native: Took too long$")
        self.assertEqual(one["words"], "No answer")
        labels = {button["name"]: button["label"] for button in many["buttons"]}
        self.assertEqual(labels["retry"], "Retry These 3")
        self.assertEqual(labels["move"], "Move Them to…")
        self.assertEqual(list(labels), ["test", "retry", "move", "show"])

    def test_what_is_no_incident_is_not_told(self):
        now = fields.Datetime.now()
        self._ended("failed", timedelta(minutes=1), error_type="content_refused")
        self._ended("failed", timedelta(minutes=1), error_type="transient",
                    retry_at=now + timedelta(hours=1))  # fmt: skip
        self._ended("completed", timedelta(minutes=1))
        self.assertEqual(self._incidents(), [])

    def test_an_incident_is_shown_and_retried_as_a_whole(self):
        mine = [
            self._ended("failed", timedelta(minutes=ago), error_type="transient") for ago in (1, 9)
        ]
        other = self._ended("failed", timedelta(minutes=1), error_type="timeout")
        incident = self._incidents()[0]
        shown = self.env["llm.generation.job"].search(
            self._press_incident(incident, "show")["domain"]
        )
        self.assertEqual(set(shown), set(mine))
        action = self._press_incident(incident, "retry")
        self.assertEqual(action["tag"], "llm_generation_bulk")
        self.assertEqual(set(action["params"]["ids"]), {job.id for job in mine})
        self.assertEqual(action["params"]["what"], "retry")
        shown.with_user(self.manager).apply_bulk("retry")
        self.assertEqual([told["error_type"] for told in self._incidents()], ["timeout"])
        self.assertEqual(other.state, "failed")
        with self.assertRaises(UserError):
            self._press_incident(incident, "nothing")

    def test_the_connection_of_an_incident_is_tested(self):
        self._ended("failed", timedelta(minutes=1), error_type="transient")
        told = self._press_incident(self._incidents()[0], "test")
        self.assertEqual(told["tag"], "display_notification")

    def test_a_user_can_only_look_at_an_incident(self):
        self._ended("failed", timedelta(minutes=1), error_type="transient")
        [incident] = self._incidents()
        for button in ("test", "retry", "move"):
            with self.assertRaises(AccessError):
                self._press_incident(incident, button, self.user)
        shown = self._press_incident(incident, "show", self.user)
        self.assertEqual(shown["res_model"], "llm.generation.job")  # of which rules show the own

    # === FIRST STEPS === #

    def _steps(self, user=None):
        return self._dashboard(user)["steps"]

    def test_a_new_administrator_is_led_to_the_first_answer(self):
        self.env["llm.generation.job"].search([]).unlink()
        self.env["llm.thread"].with_context(active_test=False).search([]).unlink()
        names = ["provider", "test", "question"]
        self.assertEqual([step["name"] for step in self._steps(self.manager)], names)

        def done():
            return [step["done"] for step in self._steps(self.manager)]

        self.assertEqual(done(), [True, True, False])
        self.env["llm.model"].search([]).active = False
        self.assertEqual(done(), [True, False, False])
        self.env["llm.provider"].search([]).active = False
        self.assertEqual(done(), [False, False, False])

    def test_the_steps_go_with_the_first_job(self):
        self._create_job("draft")
        self.assertEqual(self._steps(), [])

    # === NEWS === #

    def _new_events(self, function):
        self.env.cr.precommit.run()
        self.env["bus.bus"].search([]).unlink()
        function()
        self.env.cr.precommit.run()
        return [
            message
            for message in self.env["bus.bus"].search([]).mapped("message")
            if BUS_QUEUE_UPDATE in message
        ]

    def test_other_managers_hear_of_a_changed_queue(self):
        self.assertTrue(self._new_events(self.queue.action_disable))
        self.assertTrue(self._new_events(lambda: self.queue.write({"max_concurrent_jobs": 9})))
        self.assertFalse(self._new_events(lambda: self.queue.write({"job_timeout": 9})))

    # === ASSETS === #

    def test_the_styles_can_be_compiled(self):
        bundle = self.env["ir.qweb"]._get_asset_bundle("web.assets_backend", css=True, js=False)
        bundle.preprocess_css()
        self.assertEqual(bundle.css_errors, [])
