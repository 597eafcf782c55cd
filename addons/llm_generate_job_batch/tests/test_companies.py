from odoo.exceptions import AccessError

from odoo.addons.llm_generate_job.tests import test_companies


class TestCompanies(test_companies.CompaniesCommon):
    """Batches of users of two companies, in one shared queue."""

    def test_a_batch_belongs_to_the_company_of_its_user(self):
        self._needs("company_id" in self.env["llm.thread"], "whose conversations have a company")
        batch = (
            self
            .env["llm.generation.job"]
            .with_user(self.second_user)
            .create_batch(["Hi"], model=self.native_model)
        )
        self.assertEqual(batch.company_id | batch.job_ids.thread_id.company_id, self.second)
        self.assertEqual(batch.job_ids.company_id, self.second)

    def test_a_key_is_looked_for_in_the_company_of_the_thread(self):
        Job = self.env["llm.generation.job"]  # of OdooBot, who works in the first company

        def asked(thread):
            return len(Job.create_batch(["Hi"], threads=thread, identity_keys=["one"]).job_ids)

        counts = [asked(self.second_thread), asked(self.second_thread), asked(self.first_thread)]
        self.assertEqual(counts, [1, 0, 1])

    def test_the_callback_reads_the_answers_of_each_of_its_owners_companies(self):
        read = []

        def callback(_records, batch):
            read.append((batch.env.company, len(batch.job_ids), batch.env.companies))

        self.enterContext(self._offered("res.partner", _on_generated=callback))
        first, second = self._jobs("completed")
        (first | second).user_id = self.admin
        batch = self.env["llm.generation.batch"].create({
            "name": "G", "user_id": self.admin.id, "company_id": self.second.id,
            "callback_model": "res.partner", "callback_method": "_on_generated",
        })  # fmt: skip
        (first | second).batch_id = batch
        first.company_id, second.company_id = self.first, self.second  # each family has its own
        self.assertEqual(self._engine()._tell_each(batch.ids), 1)
        self.assertEqual(read, [(self.second, 2, self.first | self.second)])

    def test_a_manager_of_another_company_sees_and_deletes_none(self):
        batch = self.env["llm.generation.batch"].create({
            "name": "G", "user_id": self.user.id, "company_id": self.first.id
        })  # fmt: skip
        for method in ("read", "unlink"):
            arguments = [["name"]] if method == "read" else []
            result = self._rpc(self.second_manager, batch, method, *arguments)
            self.assertIsInstance(result, AccessError)
        self.assertFalse(self._rpc(self.second_manager, batch.browse(), "search", []))

    def test_a_batch_of_two_companies_says_how_much_it_leaves(self):
        first, second = self._jobs("queued", 2)
        batch = self.env["llm.generation.batch"].create({
            "name": "G", "user_id": self.admin.id, "company_id": self.second.id
        })  # fmt: skip
        (first | second).batch_id = batch
        action = self._in_second(batch).action_cancel()
        self.assertEqual(action["params"]["message"], "2 of other companies were left.")
        self.assertEqual(set(first.mapped("state")), {"queued"})
        self.assertEqual(set(second.mapped("state")), {"cancelled"})
