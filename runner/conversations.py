"""What threads of this process say to providers, and what becomes of the answers."""

import threading

from odoo import SUPERUSER_ID

from .call import Calls
from .finisher import Finisher
from .handover import LENT


class Conversations:
    """Runs and polls claimed jobs in the thread of whoever asks, and has the verdicts stored.

    `calls` has what runs, until its verdict is stored.
    """

    def __init__(self, models, name, on_end):
        """Take what gives the engine's models.

        :param Models models: gives them for short use
        :param str name: that of the thread that stores verdicts
        :param on_end: called, without arguments, each time something has ended of which more may
            come: a retry, or a question to the provider
        """
        self._models = models
        self._on_end = on_end
        self.calls = Calls()
        self._finisher = Finisher(name, self._finish, self.calls)

    def start(self):
        """Begin to store verdicts."""
        self._finisher.start()

    def stop(self):
        """Store what there is and end; does not wait."""
        self._finisher.stop()

    def hold(self, brief, method):
        """Speak with the provider about one job.

        :param str method: of `llm.generation.call`: `_run` or `_poll`
        """
        token = brief.claim.token
        thread = threading.current_thread()
        thread.dbname, thread.uid = self._models.dbname, SUPERUSER_ID  # for Odoo's log
        handed_over = False

        def finish(claim, answer):
            nonlocal handed_over
            handed_over = True
            self._finisher.put(claim, answer)

        try:
            model = self._models.get(
                "llm.generation.call",
                generation_call=self.calls.get(token),
                generation_finish=finish,
                generation_lent=LENT,
            )
            getattr(model, method)(brief)
            model.env.registry.signal_changes()
        finally:
            if not handed_over:
                self.calls.pop(token, None)
                self._on_end()

    def _finish(self, pairs):
        held = []
        try:
            call = self._models.get("llm.generation.call", generation_lent=LENT)
            held = call._finish(pairs)
        finally:
            for claim in {claim for claim, _answer in pairs} - {claim for claim, _answer in held}:
                self.calls.pop(claim.token, None)
            if any(answer.state != "completed" or answer.external_job_id for _, answer in pairs):
                self._on_end()
        return held
