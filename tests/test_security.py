from odoo.exceptions import AccessError
from odoo.service.model import call_kw, get_public_method
from odoo.tests import new_test_user

from .common import LlmGenerationCommon
from .rights import has_table

#: methods that no RPC may reach, besides those that begin with `_`
PRIVATE = {
    "llm.generation.job": ["action_complete", "action_fail", "cleanup_old_jobs"],
    "llm.provider": [
        "create_generation_job",
        "check_generation_job_status",
        "cancel_generation_job",
    ],
    "llm.thread": ["generate_response", "enqueue_generation", "generate"],
}
PUBLIC = {
    "llm.generation.job": [
        "action_queue",
        "action_start",
        "action_retry",
        "action_cancel",
        "check_status",
        "action_open_thread",
    ],
    "llm.generation.queue": ["get_queue_stats", "action_enable", "action_clear_queue"],
    "llm.provider": ["get_generation_queue_info"],
    "llm.thread": [
        "action_cancel_generation",
        "action_retry_last_failed_generation",
        "get_generation_history",
        "get_generation_stats",
    ],
}


class TestSecurity(LlmGenerationCommon):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.elsewhere = cls.env["res.company"].create({"name": "Elsewhere"})
        cls.foreign_manager = new_test_user(
            cls.env,
            "foreign_manager",
            "llm.group_llm_manager",
            company_id=cls.elsewhere.id,
            company_ids=[(6, 0, cls.elsewhere.ids)],
        )

    def _jobs_of(self, user):
        return self.env["llm.generation.job"].with_user(user).search([])

    def test_private_methods_are_out_of_reach(self):
        for model, methods in PRIVATE.items():
            for method in [*methods, "_set_state", "_call_hook"]:
                with self.subTest(model=model, method=method), self.assertRaises(AccessError):
                    get_public_method(self.env[model], method)

    def test_public_methods_are_within_reach(self):
        for model, methods in PUBLIC.items():
            for method in methods:
                with self.subTest(model=model, method=method):
                    self.assertTrue(get_public_method(self.env[model], method))

    def test_the_engine_has_no_public_method(self):
        base = set(dir(self.env["base"]))
        for name in self.env.registry:
            if name.startswith("llm.generation.") and self.env[name]._abstract:
                own = {method for method in dir(type(self.env[name])) if method not in base}
                exposed = {
                    method
                    for method in own
                    if not method.startswith("_")
                    and callable(getattr(type(self.env[name]), method))
                }
                with self.subTest(model=name):
                    self.assertFalse(exposed)

    def test_a_user_sees_their_own_jobs_only(self):
        mine, foreign = self._create_job("queued"), self._create_job("queued", user=self.manager)
        self.assertEqual(self._jobs_of(self.user) & (mine | foreign), mine)
        with self.assertRaises(AccessError):
            foreign.with_user(self.user).read(["state"])

    def test_a_user_acts_on_their_own_jobs_only(self):
        for action in ("action_cancel", "action_start"):
            foreign = self._create_job("queued", user=self.manager)
            with self.subTest(action=action), self.assertRaises(AccessError):
                getattr(foreign.with_user(self.user), action)()
            self.assertEqual(foreign.state, "queued")
        failed = self._create_job("failed", user=self.manager)
        with self.assertRaises(AccessError):
            failed.with_user(self.user).action_retry()
        draft = self._create_job("draft", user=self.manager)
        with self.assertRaises(AccessError):
            draft.with_user(self.user).action_queue()

    def test_a_user_does_not_delete_jobs(self):
        job = self._create_job("completed")
        with self.assertRaises(AccessError):
            job.with_user(self.user).unlink()
        job.with_user(self.manager).unlink()

    def test_a_manager_sees_and_manages_all_jobs_of_the_company(self):
        jobs = self._create_job("queued") | self._create_job("queued", user=self.env.user)
        self.assertEqual(self._jobs_of(self.manager) & jobs, jobs)
        jobs.with_user(self.manager).action_cancel()
        self.assertEqual(jobs.mapped("state"), ["cancelled"] * 2)

    def test_a_manager_of_another_company_sees_nothing(self):
        job = self._create_job("queued")
        self.assertTrue(job.company_id)
        self.assertFalse(self._jobs_of(self.foreign_manager) & job)
        queues = self.env["llm.generation.queue"].with_user(self.foreign_manager)
        self.assertFalse(queues.search([]) & self.queue)
        with self.assertRaises(AccessError):
            job.with_user(self.foreign_manager).action_cancel()
        with self.assertRaises(AccessError):
            self.queue.with_user(self.foreign_manager).action_disable()

    def test_only_managers_configure_queues(self):
        queue = self.queue.with_user(self.user)
        self.assertTrue(queue.read(["queue_health", "max_concurrent_jobs"]))
        for action in (
            "action_enable",
            "action_disable",
            "action_process_queue",
            "action_clear_queue",
            "action_retry_failed_jobs",
        ):
            with self.subTest(action=action), self.assertRaises(AccessError):
                call_kw(queue, action, [queue.ids], {})
        with self.assertRaises(AccessError):
            queue.write({"max_concurrent_jobs": 99})
        with self.assertRaises(AccessError):
            queue.create({"provider_id": self.native.id})
        self.queue.with_user(self.manager).write({"max_concurrent_jobs": 7})
        self.assertEqual(self.queue.max_concurrent_jobs, 7)

    def test_tries_are_read_only_and_follow_their_job(self):
        mine, foreign = self._create_job("running"), self._create_job("running", user=self.manager)
        for user in (self.user, self.manager):
            attempt = mine.attempt_ids.with_user(user)
            self.assertEqual(attempt.read(["outcome"])[0]["outcome"], "running")
            with self.assertRaises(AccessError):
                attempt.write({"outcome": "completed"})
            with self.assertRaises(AccessError):
                attempt.create({"job_id": mine.id})
            with self.assertRaises(AccessError):
                attempt.unlink()
        for user in (self.user, self.foreign_manager):
            with self.assertRaises(AccessError):
                foreign.attempt_ids.with_user(user).read(["outcome"])

    def test_runners_and_allowances_are_the_engines(self):
        engines = ("runner", "bucket", "model.pause", "held.slot")
        for model in [f"llm.generation.{name}" for name in engines]:
            with self.subTest(model=model), self.assertRaises(AccessError):
                self.env[model].with_user(self.manager).create({})
            with self.subTest(model=model), self.assertRaises(AccessError):
                self.env[model].with_user(self.user).search([])

    def test_a_portal_user_reaches_nothing(self):
        portal = new_test_user(self.env, "generation_portal", "base.group_portal")
        for model in ("llm.generation.job", "llm.generation.queue", "llm.generation.attempt"):
            with self.subTest(model=model), self.assertRaises(AccessError):
                self.env[model].with_user(portal).search([])

    def test_a_job_runs_as_its_owner(self):
        seen = []
        self.service.answers["create"] = [lambda job: seen.append(job.env) or "ext-1"]
        self.user.lang = "en_US"
        self.user.tz = "Europe/Vienna"
        self._create_job("queued")
        self._process_queue()
        [env] = seen
        self.assertEqual((env.user, env.su), (self.user, False))
        self.assertEqual((env.context["lang"], env.context["tz"]), ("en_US", "Europe/Vienna"))
        self.assertEqual(env.companies, self.user.company_id)

    def test_neither_keys_nor_prompts_get_into_the_log_or_the_job(self):
        key, prompt = "sk-proj-verysecret12345678", "my-private-question"
        self.native.sudo().api_key = key
        self.service.answers["create"] = [
            ValueError(f"401 for Bearer {key}"),
            ConnectionError(f"{key} was refused"),
            "ext-1",
        ]
        self.service.answers["check"] = [{"state": "failed", "error_message": f"Key {key} is bad"}]
        with self.assertLogs("odoo.addons.llm_generate_job", "DEBUG") as logs:
            for _try in range(3):
                self._create_job("queued", generation_inputs={"prompt": prompt})
                self._process_queue()
            self.env["llm.generation.queue"]._check_job_statuses()
        jobs = self.env["llm.generation.job"].search([("provider_id", "=", self.native.id)])
        self.assertEqual(set(jobs.mapped("state")), {"failed"})
        for secret in (key, prompt):
            self.assertNotIn(secret, "\n".join(logs.output))
            for values in self._values(jobs) + self._values(jobs.attempt_ids):
                values.pop("generation_inputs", None)
                self.assertNotIn(secret, repr(values))

    def test_a_key_that_looks_like_none_is_hidden_too(self):
        key = "correct.horse.battery"
        self.native.sudo().api_key = key
        self.service.answers["create"] = [ValueError(f"{key} is wrong"), "ext-1"]
        self.service.answers["check"] = [{"state": "failed", "error_message": f"{key} is bad"}]
        with self.assertLogs("odoo.addons.llm_generate_job", "DEBUG") as logs:
            jobs = self._create_job("queued") | self._create_job("queued")
            self._process_queue()
            self.env["llm.generation.queue"]._check_job_statuses()
        self.assertNotIn(key, "\n".join(logs.output))
        for job in jobs:
            self.assertIn("[hidden] is", job.error_message)

    def test_a_wizard_is_its_makers_own(self):
        other = new_test_user(self.env, "other_manager", "llm.group_llm_manager")
        fetch = {"provider_id": self.native.id}
        values = {
            "llm.generation.move": lambda: fetch | {"model_id": self.native_model.id},
            "llm.fetch.models": lambda: fetch,
            "llm.fetch.models.line": lambda: {
                "name": "m",
                "model_use": "chat",
                "wizard_id": self.env["llm.fetch.models"].with_user(self.manager).create(fetch).id,
            },
        }
        wizards = [
            name
            for name, model in self.env.registry.items()
            if model._transient and has_table(model._original_module)
        ]
        self.assertIn("llm.generation.prioritize", wizards)
        for name in wizards:
            own = self.env[name].with_user(self.manager).create(values.get(name, dict)())
            for operation in ("read", "write", "unlink"):
                with self.subTest(model=name, operation=operation):
                    own.check_access(operation)
                    with self.assertRaises(AccessError):
                        own.with_user(other).check_access(operation)
            self.assertFalse(own.with_user(other).search([("id", "=", own.id)]))

    def test_a_line_is_not_put_into_the_wizard_of_another(self):
        self._needs("llm.fetch.models" in self.env, "with our wizard to fetch models")
        other = new_test_user(self.env, "other_manager", "llm.group_llm_manager")
        wizard = self.env["llm.fetch.models"].with_user(self.manager)
        wizard = wizard.create({"provider_id": self.native.id})
        line = {"name": "m", "model_use": "chat", "wizard_id": wizard.id}
        with self.assertRaises(AccessError):
            self.env["llm.fetch.models.line"].with_user(other).create(line)

    def test_a_limit_of_a_model_belongs_to_the_company_of_its_provider(self):
        limits = self.env["llm.generation.model.limit"]
        limit = limits.create({"queue_id": self.queue.id, "model_id": self.native_model.id})
        self.assertEqual(limits.with_user(self.manager).search([]), limit)
        self.native.company_id = self.env["res.company"].create({"name": "Another"})
        self.assertFalse(limits.with_user(self.manager).search([]))
        with self.assertRaises(AccessError):
            limit.with_user(self.manager).max_concurrent_jobs = 9

    def test_what_a_model_answers_is_sanitised(self):
        self.service.chunks = [{"content": "<script>alert(1)</script><b onclick='x()'>Hi</b>"}]
        job = self._create_thread(self.direct_model).enqueue_generation("Hello")
        self._process_queue(self.direct)
        self.assertEqual(job.state, "completed", job.error_message)
        self.assertNotIn("<script", job.output_message_id.body)
        self.assertNotIn("<b onclick", job.output_message_id.body)
