"""What one job costs the database, many jobs together cost it, too."""

from types import SimpleNamespace
from unittest.mock import patch

from ..engine.claim import FEW
from ..engine.engine import ANNOUNCED
from ..protocol.answer import Answer, Claim
from ..runner import runner as runners
from ..runner.notifier import Outbox
from .common import PROMPT, LlmGenerationCommon

#: Statements between a commit that queues a job, or many, and the call, savepoints of the test
#: aside.
TAKE_FEW, TAKE_MANY = 3, 6
#: Statements of the rule that queues a question or answers it at once: what the thread and its
#: provider are, the queue, and up to three of its jobs.
CHOOSE = 5


class TestStatementCounts(LlmGenerationCommon):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.queue.max_concurrent_jobs = 50

    def _statements(self, function, *args):
        """Return how many statements a call takes, and what it returns."""
        seen, execute = [], type(self.env.cr).execute

        def spy(cr, query, *rest, **kwargs):
            if "SAVEPOINT" not in str(query):
                seen.append(query)
            return execute(cr, query, *rest, **kwargs)

        with self._knowing_nothing(), patch.object(type(self.env.cr), "execute", spy):
            result = function(*args)
        return len(seen), result

    def _take(self, number):
        for _job in range(number):
            self._create_job("queued")
        prefetch = self.env["llm.generation.engine"]
        count, (claimed, job_contexts, _wait) = self._statements(
            prefetch._take, 50, None, "test", self.queue.ids
        )
        self.assertEqual((claimed, len(job_contexts)), (number, number))
        return count, job_contexts

    def test_many_jobs_are_taken_with_few_statements(self):
        self._take(2)  # fills the caches of the registry
        counts = [self._take(number)[0] for number in (1, FEW, FEW + 1)]
        self.assertEqual(counts, [TAKE_FEW, TAKE_FEW, TAKE_MANY])

    def test_a_single_job_is_read_as_many_are(self):
        _count, (alone,) = self._take(1)
        _count, together = self._take(2)
        for (model, _id), values in alone.values.items():
            [others] = {
                str(sorted(job_context.values[key]))
                for job_context in together
                for key in job_context.values
                if key[0] == model
            }
            self.assertEqual(str(sorted(values)), others)
        thread = self.env["llm.thread"].browse(
            record_id for model, record_id in alone.values if model == "llm.thread"
        )
        self.assertEqual(alone.values["llm.thread", thread.id]["name"], thread.name)
        model = self.native_model
        self.assertEqual(alone.values["llm.model", model.id]["details"], model.details or None)

    def test_a_translated_text_is_read_in_the_owners_language(self):
        field = self.env["llm.model"]._fields["name"]
        self.env.registry.clear_cache()
        self.addCleanup(self.env.registry.clear_cache)
        with patch.object(field, "translate", new=True):
            columns = self.env["llm.generation.engine"]._surroundings_statement()[1]
            kept = self.env["llm.generation.engine"]._kept_names("llm.model")
        self.assertNotIn("name", columns["llm.model"])
        self.assertNotIn("name", kept)
        self.assertIn("name", columns["llm.thread"])

    def test_many_answers_are_stored_with_the_statements_of_one(self):
        counts = []
        for number in (1, 1, 9):
            _count, job_contexts = self._take(number)
            pairs = [
                (job_context.claim, Answer("completed", usage={"prompt_tokens": 1 + place}))
                for place, job_context in enumerate(job_contexts)
            ]
            answer = self.env["llm.generation.engine"]
            count, stored = self._statements(answer._apply, pairs)
            self.assertEqual(stored, number)
            jobs = self.env["llm.generation.job"].browse(claim.job_id for claim, _answer in pairs)
            self.assertEqual(jobs.mapped("prompt_tokens"), [1 + n for n in range(number)])
            counts.append(count)
        self.assertEqual(counts[1], counts[2])

    def test_whether_to_queue_is_known_without_the_figures_of_a_day(self):
        thread = self._create_thread(self.direct_model)
        counts = []
        for number in (0, 0, 1, 9):  # the first fills the caches of the registry
            for _job in range(number):
                self._create_job("queued", self.direct_model)
            count, _queued = self._statements(thread._should_queue_generation)
            counts.append(count)
        self.assertEqual(counts[1:], [CHOOSE] * 3)

    def test_of_many_jobs_only_those_are_read_whole_that_are_told(self):
        draft = {"thread_id": self._create_thread().id, "generation_inputs": {"prompt": PROMPT}}
        jobs = self.env["llm.generation.job"].create([draft] * (ANNOUNCED + 9))
        jobs.action_queue()
        names = jobs._fields["name"]._get_cache(self.env)
        self.assertLessEqual(len([job_id for job_id in jobs.ids if job_id in names]), ANNOUNCED)

    def test_a_job_that_is_gone_is_left_out(self):
        _count, (job_context,) = self._take(1)
        gone = Claim(job_context.claim.job_id + 10**6, 1)
        job_contexts = self.env["llm.generation.engine"]._prefetch([gone, job_context.claim])
        self.assertEqual([one.claim for one in job_contexts], [job_context.claim])

    def test_the_runner_of_this_process_tells_the_web_clients(self):
        job = self._create_job()
        outbox = Outbox()
        runner = SimpleNamespace(wake=lambda _queue_ids: None, outbox=outbox)
        with patch.object(runners, "running", return_value=runner):
            job.action_queue()
            self.assertFalse(outbox)
            self.env.cr.postcommit.run()
            outbox.send(lambda ids: self.assertEqual(ids, [job.id]))

    def test_a_cancellation_that_the_provider_has_to_hear_of_is_due_now(self):
        engine = self.env["llm.generation.engine"]
        job = self._create_job("running")
        self.assertIsNone(engine._next_due())
        job.cancel_requested = True
        self.assertEqual(engine._next_due(), 0)

    def test_tables_that_change_all_the_time_are_vacuumed_in_time(self):
        self.env.cr.execute(
            "SELECT relname, reloptions FROM pg_class WHERE relname = ANY(%s)",
            [["llm_generation_job", "llm_generation_attempt"]],
        )
        options = dict(self.env.cr.fetchall())
        self.assertIn("autovacuum_vacuum_scale_factor=0.01", options["llm_generation_job"])
        self.assertIn("fillfactor=70", options["llm_generation_attempt"])
