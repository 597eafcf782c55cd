"""Every example of README.md is executed here."""

from pathlib import Path

from odoo.addons.llm_generate_job.tests.common import LlmGenerationCommon
from odoo.addons.llm_generate_job.tests.readme import Page

PAGE = Page(Path(__file__).parents[1] / "README.md")


class TestReadme(LlmGenerationCommon):
    @PAGE.example("batch")
    def test_batch(self, run):
        partners = self.env["res.partner"].create([{"name": "Ann"}, {"name": "Bo"}])
        env, told, printed = self.env(user=self.user), [], []
        names = {"env": env, "model": self.direct_model, "partners": partners.with_env(env)}

        def done(records, batch):
            told.append((records.ids, batch.name, batch.env.user))

        with self._offered("res.partner", on_greeted=done):
            batch = run(**names, print=lambda *values: printed.append(values))["batch"]
            self.assertEqual(printed, [("running", 0, 0)])
            self.assertEqual(self._process_queue(self.direct), 2)
        self.assertEqual((batch.state, batch.completed_count), ("done", 2))
        self.assertEqual(told, [(partners.ids, "Greetings", self.user)])

    def test_every_example_is_executed(self):
        self.assertEqual(sorted(PAGE.examples), sorted(PAGE.executed))
