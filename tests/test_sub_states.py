import itertools
import re
from pathlib import Path

from lxml import etree

from odoo.tools.safe_eval import safe_eval

from ..const import READY, RETRYING, STATES, SUB_STATES
from .common import LlmGenerationCommon

#: What a statement says that does not ask the table.
REPEATED = re.compile(r"is_scheduled IS (NOT )?TRUE|retry_at IS NOT NULL|external_job_id IS NOT N")
#: What nothing but a sub-state depends on.
NOTED = {"is_scheduled", "retry_at", "external_job_id"}
#: What a job may have: whether it waits, its error, its next try, its id at the provider.
NOTES = [(None, False, True), (None, "busy"), (None, "2999-01-01"), (None, "ext-7")]
ROOT = Path(__file__).parent.parent


class TestSubStates(LlmGenerationCommon):
    """The table of `const.py` says the same to SQL, to the ORM and to the views."""

    def _jobs_of_every_kind(self):
        notes = list(itertools.product(*NOTES))
        jobs = none = self.env["llm.generation.job"]
        for state, _label in STATES:
            of_state = none.concat(*(self._create_job(state) for _notes in notes))
            self.env.flush_all()
            for values, job in zip(notes, of_state, strict=True):
                self.env.cr.execute(
                    "UPDATE llm_generation_job SET is_scheduled = %s, error_type = %s,"
                    " retry_at = %s, external_job_id = %s WHERE id = %s",
                    [*values, job.id],
                )
            jobs += of_state
        jobs.invalidate_recordset()
        return jobs

    def test_sql_and_domain_mean_the_same_jobs(self):
        jobs = self._jobs_of_every_kind()
        for sub_state in SUB_STATES:
            with self.subTest(sub_state.name):
                self.env.cr.execute(
                    f"SELECT id FROM llm_generation_job WHERE {sub_state.sql()} AND id = ANY(%s)"
                    " ORDER BY id",
                    [jobs.ids],
                )
                found = [row[0] for row in self.env.cr.fetchall()]
                self.assertTrue(found)
                self.assertEqual(set(jobs.browse(found).mapped("state")), {sub_state.state})
                domain = [*sub_state.domain, ("id", "in", jobs.ids)]
                self.assertEqual(jobs.search(domain, order="id").ids, found)
                self.assertEqual([job.id for job in jobs if sub_state.holds(job)], found)
                self.env.cr.execute(
                    "SELECT j.id FROM llm_generation_job j JOIN llm_generation_job other USING (id)"
                    f" WHERE {sub_state.sql('j')} AND j.id = ANY(%s) ORDER BY j.id",
                    [jobs.ids],
                )
                self.assertEqual([row[0] for row in self.env.cr.fetchall()], found)

    def test_each_waiting_job_is_in_line_or_is_not(self):
        jobs = self._jobs_of_every_kind()
        ready, scheduled = (
            jobs.filtered_domain(next(one for one in SUB_STATES if one.name == name).domain)
            for name in ("ready", "scheduled")
        )
        self.assertEqual(ready | scheduled, jobs.filtered(lambda job: job.state == "queued"))
        self.assertFalse(ready & scheduled)

    def test_filters_of_views_are_those_of_the_table(self):
        known = [one.domain for one in SUB_STATES]
        found = []
        for view in self.env["ir.ui.view"].search([("model", "=", "llm.generation.job")]):
            for each in etree.fromstring(view.arch).iter("filter"):
                domain = safe_eval(each.get("domain") or "[]", {"uid": 1})
                if NOTED & {leaf[0] for leaf in domain if isinstance(leaf, tuple)}:
                    self.assertIn(domain, known, each.get("name"))
                    found.append(domain)
        self.assertIn(RETRYING.domain, found)

    def test_no_statement_repeats_a_condition(self):
        files = [*ROOT.glob("engine/*.py"), *ROOT.glob("runner/*.py")]
        addons = [ROOT / "addons", ROOT.parent]  # in the repository, and installed
        files += (path for each in addons for path in each.glob("llm_generate_job_*/**/*.py"))
        own = [path for path in files if "tests" not in path.parts]
        self.assertGreater(len(own), 15)
        for path in own:
            self.assertIsNone(REPEATED.search(path.read_text(encoding="utf-8")), path.name)

    def test_the_index_of_the_claim_has_the_jobs_in_line(self):
        index = self.env["llm.generation.job"]._claim_idx
        self.assertIn(READY.sql(), index.get_definition(self.registry))
