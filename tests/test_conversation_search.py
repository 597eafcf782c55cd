from odoo.exceptions import UserError

from ..engine import statistics
from .common import LlmGenerationCommon


class TestConversationSearch(LlmGenerationCommon):
    """Jobs are found by what was asked and answered, as far as one may read it."""

    def setUp(self):
        super().setUp()
        self._commit_each_chunk()
        self.service.chunks = [{"content": "It is **made** of 100% oak & pine"}]
        thread = self._create_thread(self.direct_model)
        self.job = thread.enqueue_generation("What is the wardrobe_7 made of?")
        self._process_queue(self.direct)
        self.assertEqual(self.job.state, "completed", self.job.error_message)

    def _found(self, words, user=None):
        jobs = self.env["llm.generation.job"].with_user(user or self.user)
        return jobs.search([("conversation_text", "ilike", words)])

    def test_a_job_is_found_by_its_question_and_its_answer(self):
        for words in ("wardrobe", "WARDROBE_7", " of 100% oak & p ", "oak & pine", "**made**"):
            with self.subTest(words):
                self.assertEqual(self._found(words) & self.job, self.job)
        for words in ("100 oak", "wardrobeX7", "10%oak", "mahogany"):
            with self.subTest(words):
                self.assertNotIn(self.job, self._found(words))

    def test_nobody_finds_what_he_may_not_read(self):
        other = self._create_thread(self.direct_model, self.manager)
        secret = other.enqueue_generation("The password of the zebra")
        self.assertEqual(self._found("zebra", self.manager), secret)
        self.assertFalse(self._found("zebra"))
        # A job of one's own that tells of a message of somebody else, and a conversation that
        # was given away since.
        self.job.sudo().input_message_id = secret.input_message_id
        self.assertFalse(self._found("zebra"))
        self.job.sudo().thread_id = other
        self.assertFalse(self._found("zebra"))
        self.assertFalse(self._found("oak & pine"))
        # nor through another model, whose search may be one of the superuser
        jobs = self.env["llm.generation.job"].with_user(self.user).sudo()
        self.assertFalse(jobs.search([("conversation_text", "ilike", "zebra")]))

    def test_a_company_finds_its_own_only(self):
        elsewhere = self.env["res.company"].create({"name": "Elsewhere"})
        self.manager.write({"company_id": elsewhere.id, "company_ids": [(6, 0, elsewhere.ids)]})
        self.assertFalse(self._found("wardrobe", self.manager))

    def test_few_letters_are_refused(self):
        self.assertIn("at least 3 letters", self._refusal(self._found, " ok ", error=UserError))

    def test_of_what_very_many_texts_have_the_newest_are_found(self):
        thread = self.job.thread_id
        old = self._create_job(model=self.direct_model, thread_id=thread.id)
        new = self._create_job(model=self.direct_model, thread_id=thread.id)
        for job in (old, new):
            job.input_message_id = thread.message_post(body="A chair", llm_role="user")
        self.assertEqual(self._found("a chair"), new + old)
        self.patch(statistics, "MOST_SAYING", 1)
        self.patch(statistics, "NEWEST_SAYING", 1)
        self.assertEqual(self._found("a chair"), new)

    def test_an_index_has_what_was_said(self):
        self.env.cr.execute(
            "SELECT indexdef FROM pg_indexes WHERE indexname = 'mail_message__llm_said_idx'"
        )
        [(definition,)] = self.env.cr.fetchall()
        self.assertIn(f"({statistics.sql.SAID} gin_trgm_ops)", definition)
        self.assertIn("WHERE ((model)::text = 'llm.thread'::text)", definition)

    def test_a_database_without_the_extension_is_searched_all_the_same(self):
        broken = self._patched(f"{statistics.__name__}.sql.INDEX_TEXTS", "SELECT nothing")
        with broken, self.assertLogs(statistics.__name__, "WARNING"):
            self._engine()._index_texts()
        self.assertIn(self.job, self._found("wardrobe"))


class TestSearchedFields(LlmGenerationCommon):
    def test_nothing_internal_is_offered_to_filter_or_group_by(self):
        Job = self.env["llm.generation.job"]
        internal = {name for name, field in Job._fields.items() if field.groups and field.store} | {
            "generation_inputs",
            "provider_data",
        }
        described = Job.with_user(self.env.ref("base.user_admin")).fields_get()
        for name in internal & described.keys():
            with self.subTest(name):
                for key in ("searchable", "groupable"):
                    self.assertFalse(described[name].get(key))
        self.assertTrue(described["state"]["groupable"])
