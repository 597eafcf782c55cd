from odoo.exceptions import AccessError, UserError
from odoo.tests import Form

from .common import LlmGenerationCommon


class TestLlmGenerationQueuePanel(LlmGenerationCommon):
    def _notes(self):
        """Return what the chatter of the queue says, tracked values included."""
        self.env.cr.precommit.run()
        self.queue.invalidate_recordset(["message_ids"])
        texts = []
        for message in self.queue.message_ids:
            texts.append(str(message.body))
            for value in message.sudo().tracking_value_ids:
                texts.append(
                    f"{value.field_id.name}: {value.old_value_integer} to {value.new_value_integer}"
                )
        return "\n".join(texts)

    # === THE BARS OF THE HOURS === #

    def test_the_form_has_the_figures_of_the_dashboard(self):
        self._create_job("completed", user=self.manager)
        self._create_job("failed")
        queue = self.queue.with_user(self.user)
        self.assertEqual(queue.jobs_by_hour, [[0, 0]] * 23 + [[1, 1]])
        self.assertEqual(self.direct_queue.jobs_by_hour, [[0, 0]] * 24)

    # === THE SECRET === #

    def test_a_secret_is_kept_and_not_shown_again(self):
        with Form(self.queue.with_user(self.manager)) as form:
            form.new_webhook_secret = " whsec_c2VjcmV0 "

        self.assertEqual(self.queue.webhook_secret, "whsec_c2VjcmV0")
        self.queue.invalidate_recordset()
        shown = self.queue.with_user(self.manager).read([
            "new_webhook_secret",
            "has_webhook_secret",
        ])
        self.assertEqual(shown[0]["new_webhook_secret"], False)
        self.assertTrue(shown[0]["has_webhook_secret"])
        self.assertIn("The webhook secret was changed.", self._notes())
        self.assertNotIn("c2VjcmV0", self._notes())

    def test_saving_the_form_without_one_keeps_the_secret(self):
        self.queue.webhook_secret = "c2VjcmV0"
        with Form(self.queue.with_user(self.manager)) as form:
            form.max_concurrent_jobs = 2
        self.assertEqual(self.queue.webhook_secret, "c2VjcmV0")

    def test_what_is_no_secret_is_refused(self):
        for text in ("not a secret!", "whsec_", "whsec_ü", " whsec_ "):
            with self.subTest(text), self.assertRaisesRegex(UserError, "no webhook secret"):
                self.queue.with_user(self.manager).new_webhook_secret = text
            self.assertFalse(self.queue.sudo().webhook_secret)

    def test_a_secret_is_removed(self):
        self.queue.webhook_secret = "c2VjcmV0"
        self.queue.with_user(self.manager).action_remove_webhook_secret()
        self.assertFalse(self.queue.webhook_secret)
        self.assertIn("The webhook secret was removed.", self._notes())

    def test_no_user_comes_near_a_secret(self):
        queue = self.queue.with_user(self.user)
        for name in ("webhook_secret", "new_webhook_secret", "has_webhook_secret"):
            with self.subTest(name), self.assertRaises(AccessError):
                queue.read([name])
        with self.assertRaises(AccessError):
            queue.write({"new_webhook_secret": "c2VjcmV0"})
        with self.assertRaises(AccessError):
            queue.action_remove_webhook_secret()

    def test_no_manager_reads_a_secret_or_writes_it_unchecked(self):
        self.queue.sudo().webhook_secret = "c2VjcmV0"
        queue = self.queue.with_user(self.manager)
        calls = {
            "read": lambda: queue.read(["webhook_secret"]),
            "write": lambda: queue.write({"webhook_secret": "not a secret!"}),
            "search": lambda: queue.search([("webhook_secret", "=like", "c%")]),
            "group": lambda: queue.formatted_read_group([], ["webhook_secret"]),
        }
        for name, call in calls.items():
            with self.subTest(name), self.assertRaises(AccessError):
                call()
        self.assertNotIn("webhook_secret", queue.fields_get())
        self.assertEqual(self.queue.sudo().webhook_secret, "c2VjcmV0")

    # === THE CHATTER === #

    def test_changes_of_limits_are_noted(self):
        self.env.cr.precommit.run()
        self.queue.max_concurrent_jobs = 3
        self.assertIn("max_concurrent_jobs: 5 to 3", self._notes())

    def test_changes_of_the_limits_of_models_are_noted(self):
        limit = self.env["llm.generation.model.limit"].create({
            "queue_id": self.queue.id,
            "model_id": self.native_model.id,
            "max_concurrent_jobs": 2,
        })
        self.assertIn("Limit of the model Native model: 2 jobs at the same time", self._notes())

        limit.max_concurrent_jobs = 4
        self.assertIn("4 jobs at the same time (before: Native model, 2)", self._notes())

        limit.max_concurrent_jobs = 4
        self.assertEqual(self._notes().count("4 jobs at the same time"), 1)

        limit.unlink()
        self.assertIn("Native model: no limit of its own any more", self._notes())

    # === BULK === #

    def test_a_manager_retries_what_failed_and_clears_what_waits(self):
        failed, waiting = self._create_job("failed"), self._create_job("queued")
        other = self._create_job("failed", model=self.direct_model)
        queue = self.queue.with_user(self.manager)

        retry, clear = queue.action_bulk_retry_failed(), queue.action_bulk_clear()

        self.assertEqual(retry["params"]["ids"], failed.ids)
        params = {"what": "clear", "value": None, "ids": waiting.ids}
        self.assertEqual(clear["params"], params)
        begun = self._create_job("running")
        done = (waiting | begun).with_user(self.manager).apply_bulk("clear")
        self.assertEqual(done, {"done": 1, "refused": {"run already, or have ended": 1}})
        self.assertEqual((waiting.state, begun.state), ("cancelled", "running"))
        self.assertNotIn(other.id, retry["params"]["ids"])

    def test_no_user_does(self):
        queue = self.queue.with_user(self.user)
        for method in (queue.action_bulk_retry_failed, queue.action_bulk_clear):
            with self.subTest(method.__name__), self.assertRaises(AccessError):
                method()
