import contextlib
from unittest.mock import patch

from odoo.addons.llm_generate_job.tests.common import LlmGenerationCommon
from odoo.addons.queue_job.job import Job

from ..executor import QueueJobs


class ThreadsDouble:
    """Stands for the threads of a runner, which do nothing here."""

    slots = 8

    def __init__(self):
        self.free = self.slots
        self.tokens = []
        self.taken, self.started = [], []
        self.has_left = False

    def take(self, slots, _runner_id, _runner_name, queue_ids=None):
        self.taken.append((slots, queue_ids))
        return 0, [], {}

    def start(self, work):
        self.started += work

    def held(self, _runner_id):
        return self.tokens

    def is_busy(self, _runner_id):
        return bool(self.tokens)

    def leave(self, _runner_id, _deadline, _wait):
        self.has_left = True


class QueueJobCommon(LlmGenerationCommon):
    """A runner whose claims go to queue_job, and what a worker of it does with one."""

    def setUp(self):
        super().setUp()
        (self.queue + self.direct_queue).executor = "queue_job"
        engine = self._engine()
        self.threads = ThreadsDouble()
        self.executor = engine._executor(self.threads)
        runner_id = engine._runner_row("host:1", 4)
        self.runner = self.env["llm.generation.runner"].browse(runner_id)

    def _switch_off(self):
        (self.queue + self.direct_queue).executor = "runner"

    def _hand_over(self, slots=8, queue=None):
        """Claim what may start and hand it over, as a runner does; return the claims."""
        queue = queue or self.direct_queue
        self.assertIsInstance(self.executor, QueueJobs)
        count, work, _wait = self.executor.take(slots, self.runner.id, "host:1", queue.ids)
        self.executor.start(work)
        claims, _job_contexts = work
        self.assertEqual(count, len(claims))
        self.env.invalidate_all()
        return claims

    def _handed_over(self, **values):
        """Return a job that waits for a worker of queue_job, and the record that is to run it."""
        job = self._create_job("queued", model=self.direct_model, **values)
        self._hand_over()
        return job, self._record_of(job)

    def _record_of(self, job):
        uuid = job.attempt_ids[:1].queue_job_uuid
        return self.env["queue.job"].search([("uuid", "=", uuid)])

    @contextlib.contextmanager
    def _counting(self):
        """Yield a list that gets the statements executed meanwhile, savepoints aside."""
        seen, execute = [], type(self.env.cr).execute

        def spy(cr, query, *rest, **kwargs):
            if "SAVEPOINT" not in str(query):
                seen.append(query)
            return execute(cr, query, *rest, **kwargs)

        with patch.object(type(self.env.cr), "execute", spy):
            yield seen

    def _work(self, record):
        """Do what a worker of queue_job does with a record, and return the result."""
        loaded = Job.load(self.env, record.uuid)
        loaded.set_started()
        loaded.store()
        result = loaded.perform()
        loaded.set_done()
        loaded.store()
        self.env.flush_all()
        self.env.invalidate_all()
        return result

    def _maintain(self):
        """Give back what the runner has lost, as its housekeeping does."""
        held = self.executor.held(self.runner.id)
        lost = self._engine()._rescue_lost(self.runner.id, held)
        self.env.invalidate_all()
        return lost
