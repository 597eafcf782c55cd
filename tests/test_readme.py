"""The examples of the pages are executed here, and the names of the addon on them are there."""

import re
from inspect import signature
from pathlib import Path
from unittest.mock import patch

from odoo.exceptions import UserError
from odoo.tests import TransactionCase, new_test_user, tagged

from .. import exceptions
from .common import LlmGenerationCommon
from .readme import Page

ROOT = Path(__file__).parents[1]
HTTP = "odoo.addons.llm_generate_job.protocol.bounded_http"
PAGE = Page(ROOT / "README.md")
PROVIDERS = Page(ROOT / "docs" / "providers.md")
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
example = PAGE.example


class InheritMixin:
    """Lets the registry have a class of an example, as if its module was installed."""

    def _inherit(self, definition):
        model = self.env.registry[definition._name]
        self.addCleanup(setattr, model, "__bases__", model.__bases__)
        model.__bases__ = (definition, *model.__bases__)


class TestReadmeUse(InheritMixin, LlmGenerationCommon):
    def setUp(self):
        super().setUp()
        self.printed = []

    def _print(self, *values):
        self.printed.append(values)

    @example("ask")
    def test_ask(self, run):
        run(
            env=self.env(user=self.user),
            provider=self.direct,
            model=self.direct_model,
            print=self._print,
        )
        kinds = [values[0] for values in self.printed]
        self.assertIn("queued", kinds)
        self.assertIn("Hello", str(self.printed))
        self.assertEqual(kinds[-1], "done")

    @example("bulk")
    def test_bulk(self, run):
        names = {
            "env": self.env(user=self.user),
            "provider": self.direct,
            "model": self.direct_model,
            "partners": self.env["res.partner"].create([{"name": "Ann"}, {"name": "Bo"}]),
        }
        run(**names)
        run(**names)  # the keys keep it from asking twice
        jobs = self.env["llm.generation.job"].search([("provider_id", "=", self.direct.id)])
        self.assertEqual(jobs.mapped("state"), ["queued"] * 2)
        self.assertEqual(jobs.mapped("priority"), [20, 20])
        self.assertEqual(self._process_queue(self.direct), 2)
        self.assertEqual(jobs.mapped("state"), ["completed"] * 2)
        self.assertIn("Greet Ann in one sentence.", jobs.input_message_id.sorted("id")[0].body)

    @example("hook")
    def test_hook(self, run):
        self._inherit(run()["LlmThread"])
        user = new_test_user(self.env, "readme_user", "base.group_partner_manager")
        user.group_ids += self.user.group_ids
        partner = self.env["res.partner"].create({"name": "Ann"})
        thread = self._create_thread(self.direct_model, user)
        thread.write({"model": "res.partner", "res_id": partner.id})
        thread.enqueue_generation("Greet Ann.")
        self._process_queue(self.direct)
        self.assertIn("Hello", partner.comment)

    @example("job")
    def test_job(self, run):
        thread = self._create_thread()
        names = {"env": self.env(user=self.user), "thread": thread}
        self.assertEqual(run(**names)["job"].state, "cancelled")
        schema = {"properties": {"prompt": {"maxLength": 5}}}
        self.native_model.details = {"input_schema": schema}
        with self.assertRaisesRegex(UserError, "prompt.*too long"):
            run(**names)

    @example("administer")
    def test_administer(self, run):
        job = self._create_job("failed")
        names = run(
            env=self.env(user=self.manager),
            provider=self.native.with_user(self.manager),
            print=self._print,
        )
        self.assertEqual(self.queue.max_concurrent_jobs, 2)
        self.assertEqual(self.queue.requests_per_minute, 60)
        self.assertTrue(self.queue.enabled)
        self.assertEqual(names["stats"]["job_counts"]["failed"], 1)
        self.assertEqual(self.printed[0][0], "healthy")
        self.assertEqual(job.state, "queued")


@tagged("post_install", "-at_install")
class TestReadmeProvider(InheritMixin, TransactionCase):
    def setUp(self):
        super().setUp()
        self.replies = {}
        acme = self.startPatcher(patch(f"{HTTP}.request_json"))
        acme.side_effect = self._reply
        self.acme = acme

    def _reply(self, method, url, **_kwargs):
        return self.replies[method, url]

    def _create_job(self):
        self.provider = self.env["llm.provider"].create({
            "name": "Acme",
            "service": "acme",
            "api_base": "https://acme.example/v1",
            "api_key": "secret",
        })
        model = self.env["llm.model"].create({"name": "anvil", "provider_id": self.provider.id})
        thread = self.env["llm.thread"].create({
            "name": "Anvils",
            "provider_id": self.provider.id,
            "model_id": model.id,
        })
        inputs = {"prompt": "How heavy?"}
        job = thread.enqueue_generation(inputs=inputs)
        self.env["llm.generation.queue"]._process_provider_queue(self.provider)
        return job

    def _answer(self, method, path, **reply):
        self.replies[method, f"https://acme.example/v1/{path}"] = reply

    @PROVIDERS.example("provider")
    def test_provider(self, run):
        self._inherit(run()["LlmProvider"])
        self._answer("POST", "jobs", id="a1")
        job = self._create_job()
        self.assertEqual((job.state, job.external_job_id), ("running", "a1"))
        sent = self.acme.call_args.kwargs
        self.assertEqual(sent["json"], {"model": "anvil", "prompt": "How heavy?"})
        self.assertEqual(sent["headers"], {"Authorization": "Bearer secret"})

        self._answer("GET", "jobs/a1", status="busy", percent=40)
        job.check_status()
        self.assertEqual((job.state, job.progress), ("running", 40))

        usage = {"prompt_tokens": 2, "completion_tokens": 3}
        self._answer("GET", "jobs/a1", status="done", text="Very.", usage=usage)
        job.check_status()
        self.assertEqual((job.state, job.completion_tokens), ("completed", 3))
        self.assertIn("Very.", job.output_message_id.body)

    @PROVIDERS.example("provider")
    def test_provider_cancels(self, run):
        self._inherit(run()["LlmProvider"])
        self._answer("POST", "jobs", id="a1")
        self._answer("DELETE", "jobs/a1", stopped=True)
        job = self._create_job()
        job.action_cancel()
        self.assertEqual(job.state, "cancelled")
        self.assertEqual(self.acme.call_args.args[0], "DELETE")

    @PROVIDERS.example("override")
    def test_override(self, run):
        services = "_get_available_services"
        provider_class = self.env.registry["llm.provider"]
        with patch.object(provider_class, services, lambda _self: [("acme", "Acme")]):
            self._inherit(run()["LlmProvider"])
            job = self._create_job()
        self.assertEqual((job.state, job.retry_count), ("queued", 0))
        self.assertEqual(job.error_message, "Acme is closed for lunch.")
        queue = self.env["llm.generation.queue"]._get_or_create_queue(self.provider)
        self.assertTrue(queue.paused_until)
        self.acme.assert_not_called()


@tagged("post_install", "-at_install")
class TestReadmeNames(TransactionCase):
    @staticmethod
    def _rows(page, head):
        """Return the cells of the table of a page whose head begins so."""
        lines = page[page.index(f"| {head}") :].split("\n\n")[0].splitlines()[2:]
        return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]

    @staticmethod
    def _code(text):
        return re.findall(r"`([^`]+)`", text)

    @staticmethod
    def _sources(pattern):
        return "\n".join(path.read_text(encoding="utf-8") for path in ROOT.glob(pattern))

    def test_every_example_is_executed(self):
        for page in (PAGE, PROVIDERS):
            self.assertEqual(sorted(page.examples), sorted(page.executed))

    def test_the_fields_and_their_defaults_are_there(self):
        Queue = self.env["llm.generation.queue"]
        for names, default, _what in self._rows(CONFIGURATION, "field"):
            for name in self._code(names):
                with self.subTest(name=name):
                    self.assertIn(name, Queue._fields)
                    if default:
                        value = {"yes": 1, "no": 0}.get(default, default)
                        self.assertEqual(Queue.default_get([name]).get(name, 0), float(value))

    def test_the_parameters_are_there(self):
        sources = self._sources("models/*.py") + self._sources("engine/*.py")
        for names, _default, _what in self._rows(CONFIGURATION, "system parameter"):
            for name in self._code(names):
                short = name.removeprefix("llm_generate_job.")
                self.assertTrue(f'"{name}"' in sources or f'"{short}"' in sources, name)

    def test_the_errors_are_there(self):
        for names, *_told in self._rows(PROVIDERS.text, "raise"):
            for code in self._code(names):
                name, _paren, argument = code.partition("(")
                if "=" in name:  # what any of them may have
                    name, argument = "GenerationError", name
                known = getattr(exceptions, name, None) or {"UserError": UserError}[name]
                self.assertTrue(issubclass(known, Exception))
                if argument:
                    self.assertIn(argument.partition("=")[0], signature(known).parameters)
