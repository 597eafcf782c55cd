import json

from odoo.exceptions import AccessError, UserError

from ..const import MAX_CELL_SIZE, MAX_RESULT_SIZE
from .common import LlmToolCommon


class TestRecordTools(LlmToolCommon):
    def _search(self, **parameters):
        return self._execute("search_records", model="res.partner", **parameters)

    def _read(self, **parameters):
        return self._execute("read_records", model="res.partner", **parameters)

    def test_search_finds_ids_and_names(self):
        self.assertEqual(
            self._search(domain=[["ref", "=", "R1"]]),
            {
                "model": "res.partner",
                "total": 1,
                "records": [{"id": self.partners[1].id, "display_name": "Tool Partner 1"}],
            },
        )

    def test_search_pages_through_the_records(self):
        domain = [["name", "like", "Tool Partner"]]
        first = self._search(domain=domain, limit=2, order="name desc")
        self.assertEqual([row["id"] for row in first["records"]], self.partners[:0:-1].ids)
        self.assertEqual((first["total"], first["next_offset"]), (3, 2))

        last = self._search(domain=domain, limit=2, order="name desc", offset=2)
        self.assertEqual([row["id"] for row in last["records"]], self.partners[0].ids)
        self.assertNotIn("next_offset", last)

    def test_read_gives_fields_by_domain_and_by_id(self):
        row = {"id": self.partners[2].id, "ref": "R2", "parent_id": False}

        by_domain = self._read(fields=["ref", "parent_id"], domain=[["ref", "=", "R2"]])
        by_id = self._read(fields=["ref", "parent_id"], ids=self.partners[2].ids)

        self.assertEqual(by_domain["records"], [row])
        self.assertEqual(by_id["records"], [row])

    def test_no_id_reads_no_record(self):
        self.assertEqual(self._read(fields=["name"], ids=[])["total"], 0)

    def test_an_unknown_field_is_refused_with_those_there_are(self):
        with self.assertRaisesRegex(UserError, "no field “nonsense” .* display_name"):
            self._read(fields=["name", "nonsense"])

    def test_an_unknown_or_abstract_model_is_refused(self):
        for model in ("res.nonsense", "mail.thread"):
            with self.subTest(model=model), self.assertRaisesRegex(UserError, "no model"):
                self._execute("search_records", model=model)

    def test_a_bad_domain_is_refused_with_its_reason(self):
        for domain in (
            [["nonsense", "=", 1]],
            [["name", "==="]],
            ["name"],
            [["child_ids", "any!", [["name", "=", "x"]]]],
            [["child_ids", "any", [["child_ids", "any!", []]]]],
        ):
            with self.subTest(domain=domain), self.assertRaisesRegex(UserError, "not valid"):
                self._search(domain=domain)

    def test_the_number_of_records_is_bounded(self):
        with self.assertRaisesRegex(UserError, "maximum of 100"):
            self._search(limit=101)

    def test_records_follow_the_rights_of_the_user(self):
        with self.assertRaises(AccessError):
            self._execute("search_records", model="ir.config_parameter")
        with self.assertRaises(AccessError):  # and its fields are not told
            self._execute("read_records", model="ir.cron", fields=["nonsense"])

        company = self.env["res.company"].create({"name": "Elsewhere"})
        self.partners.company_id = company
        self.assertEqual(self._search(domain=[["name", "like", "Tool Partner"]])["total"], 0)

    def test_the_key_of_a_provider_is_no_field_to_a_user(self):
        with self.assertRaisesRegex(UserError, "no field “api_key”"):
            self._execute("read_records", model="llm.provider", fields=["api_key"])
        with self.assertRaises(UserError):
            self._execute(
                "search_records", model="llm.provider", domain=[["api_key", "=like", "s%"]]
            )

    def test_long_texts_are_cut(self):
        self.partners[0].comment = "x" * 2 * MAX_CELL_SIZE

        row = self._read(fields=["comment"], ids=self.partners[0].ids)["records"][0]

        self.assertEqual(len(row["comment"]), MAX_CELL_SIZE + 1)

    def test_an_answer_that_is_too_long_tells_where_to_go_on(self):
        many = self.env["res.partner"].create([
            {"name": f"Long {number}", "comment": "x" * 1900} for number in range(20)
        ])

        answer = self._read(fields=["comment"], ids=many.ids)

        self.assertLess(len(json.dumps(answer)), MAX_RESULT_SIZE)
        self.assertEqual(answer["total"], 20)
        self.assertEqual(answer["next_offset"], len(answer["records"]))
        rest = self._read(fields=["comment"], ids=many.ids, offset=answer["next_offset"])
        self.assertNotEqual(rest["records"][0]["id"], answer["records"][-1]["id"])

    def test_files_are_told_by_their_size(self):
        attachment = (
            self
            .env["ir.attachment"]
            .with_user(self.user)
            .create({
                "name": "note.txt",
                "raw": b"x" * 2048,
            })
        )

        answer = self._execute(
            "read_records", model="ir.attachment", fields=["datas"], ids=attachment.ids
        )

        self.assertEqual(answer["records"][0]["datas"], "2.00 Kb")
