from odoo import api, models

from odoo.addons.llm_generate_job.exceptions import NoJobInterfaceError, OverloadedError

#: Uses of a model whose jobs are one request with one answer.
BATCHED_USES = ("chat", "multimodal")
NOT_YET = "Whether the provider has this batch is known when the batches end that it may be."
#: What a provider may have in one batch, unless it says less.
DEFAULT_LIMITS = {"jobs": 10_000, "bytes": 32_000_000}


class LlmProvider(models.Model):
    """The protocol of a provider that takes many jobs at once: override, or `<service>_…()`.

    All but the first method are called in the superuser's environment, with no transaction open;
    they read the key with `_read_api_key()`. Errors are told as in the protocol of single jobs.
    """

    _inherit = "llm.provider"

    @api.private
    def prepare_generation_batch(self, job_record):
        """Return what a batch asks for one job, in the environment of the job's owner.

        :return: a dict that is written as JSON
        :raise GenerationError: for a job that no batch can ask for; it runs by itself
        """
        return self._batch_call("prepare", job_record)

    @api.private
    def submit_generation_batch(self, batch_record, requests):
        """Submit a batch.

        Where the provider lets one name it, it is named `batch_record.key`: by that it is found if
        nobody hears the answer.

        :param dict requests: what `prepare_generation_batch()` returned, by `custom_id`, a text of
            at most 64 letters, digits and `-`
        :return: the provider's id of the batch
        """
        return self._batch_call("submit", batch_record, requests)

    @api.private
    def find_generation_batch(self, batch_record):
        """Look for a batch that was perhaps submitted, and whose id nobody noted.

        :return: the provider's id of it, None where it has none
        :raise GenerationError: where that cannot be known yet
        """
        return self._batch_call("find", batch_record)

    @api.private
    def check_generation_batch(self, batch_record):
        """Ask where a batch stands.

        :return: a dict with `state`: `running`, `ended`, or `failed` for one that the provider
            did not begin; and, as far as known, `done` (requests that are; an ended one
            that brings fewer results is read once more), `error_type` and `error_message`,
            `poll_after` (s), and of an ended one `results`: an iterable of
            `(custom_id, result)` in any order. A result is a dict as that of
            `check_generation_job_status()`, with the `text` of the answer in the place of a
            message, or with an `error` that is an exception; of the state `cancelled` where the
            request was not done, and is not paid for.
        """
        return self._batch_call("check", batch_record)

    @api.private
    def cancel_generation_batch(self, batch_record):
        """Tell the provider that a batch was given up: what is done by then may be answered still.

        :return: whether the provider stops it
        """
        return bool(self._batch_call("cancel", batch_record))

    @api.private
    def forget_generation_batch(self, batch_record):
        """Have the provider delete what was asked and answered, once that is stored here.

        A service that keeps both for good, or cannot delete them, leaves this out.
        """
        if hasattr(self, f"{self.service}_forget_generation_batch"):
            self._dispatch("forget_generation_batch", batch_record)

    def _find_unnamed_batch(self, batch_record, made):
        """Find a batch at a service where none has a name: by what it has answered.

        :param made: `(id, number of requests, results)` of batches made since the first try, where
            `results` is a function as in `check_generation_batch()`, None before the end
        :raise OverloadedError: while one has not ended that may be it: nobody can know
        """
        known = set(
            self
            .env[batch_record._name]
            .search([("provider_id", "=", self.id), ("external_id", "!=", False)])
            .mapped("external_id")
        )
        is_open = False
        for external, number, results in made:
            if external in known or number != batch_record.job_count:
                continue
            if results is None:
                is_open = True
                continue
            answers = iter(results())
            custom_id, _result = next(answers, ("", None))
            if hasattr(answers, "close"):
                answers.close()
            if batch_record._job_id_of(custom_id):
                return external
        if is_open:
            raise OverloadedError(NOT_YET)
        return None

    def _batch_call(self, verb, *args):
        self.ensure_one()
        if not hasattr(self, f"{self.service}_{verb}_generation_batch"):
            raise NoJobInterfaceError(self.service)
        return self._dispatch(f"{verb}_generation_batch", *args)

    def _batch_limits(self):
        """Return how many `jobs` and `bytes` one batch may have.

        A service that takes fewer says so by `<service>_batch_limits()`.
        """
        if hasattr(self, f"{self.service}_batch_limits"):
            return {**DEFAULT_LIMITS, **self._dispatch("batch_limits")}
        return DEFAULT_LIMITS

    def _takes_batches(self):
        """Return whether the provider can be given many jobs at once."""
        return self._implements_batches("submit_generation_batch")

    @api.model
    def _implements_batches(self, method):
        if self and hasattr(self, f"{self.service}_{method}"):
            return True
        implementing = (cls for cls in type(self).mro() if method in cls.__dict__)
        return next(implementing).__module__ != __name__
