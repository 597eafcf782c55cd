from odoo.exceptions import UserError

from ..models import llm_generation_job
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

    def test_the_newest_jobs_are_searched(self):
        thread = self.job.thread_id
        old = self._create_job(model=self.direct_model, thread_id=thread.id)
        new = self._create_job(model=self.direct_model, thread_id=thread.id)
        for job in (old, new):
            job.input_message_id = thread.message_post(body="A chair", llm_role="user")
        self.assertEqual(self._found("a chair"), new + old)
        self.patch(llm_generation_job, "SEARCHED_JOBS", 1)
        self.assertEqual(self._found("a chair"), new)

    def test_the_jobs_of_others_do_not_hide_ones_own(self):
        self.patch(llm_generation_job, "SEARCHED_JOBS", 1)
        self._create_job(user=self.manager)
        self.assertEqual(self._found("wardrobe"), self.job)

    def test_what_cannot_be_searched_for_is_a_sentence(self):
        Job = self.env["llm.generation.job"].with_user(self.user)
        for operator, value in (("=", "oak"), ("not ilike", "oak")):
            with self.subTest(operator, value=value), self.assertRaises(UserError):
                Job.search([("conversation_text", operator, value)])


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
