from datetime import timedelta

from odoo import api, fields, models
from odoo.exceptions import UserError
from odoo.tools.misc import clean_context

from odoo.addons.llm_generate_job.const import ACTIVE_STATES

from .. import statements as sql
from .llm_provider import BATCHED_USES
from .provider_batches import LEAST_TIME

#: What a move looks at, and what decides on who gathers: of many jobs nothing else is read.
LANE_FIELDS = ("batch_lane", "batch_priced", "provider_batch_id", "unfit_output")
CHOICE_FIELDS = (
    *("attempt_count", "is_economy", "is_scheduled", "model_id", "post"),
    *("provider_batch_id", "provider_id", "scheduled_at", "thread_id"),
)
#: Hours after which an economy job runs in any case, where no date is given.
ECONOMY_HOURS = 24


class LlmGenerationJob(models.Model):
    """Thousands of jobs in one call, the batch that they belong to, and jobs that can wait.

    Those run when their queue is idle, at the latest at a date. Until then they are delayed ones,
    so that a claim has nothing to do with them.
    """

    _inherit = "llm.generation.job"

    batch_id = fields.Many2one(
        "llm.generation.batch",
        readonly=True,
        copy=False,
        index="btree_not_null",
        ondelete="set null",
    )

    is_economy = fields.Boolean(
        "Run When Idle",
        help="Runs when nothing else waits, in half of the queue's slots at most; at the latest"
        " at its date, or after a day.",
    )

    latest_at = fields.Datetime(
        "Latest Date",
        readonly=True,
        copy=False,
        groups="base.group_system",
        help="The date of one that joined the line because its queue was idle, before it.",
    )

    provider_batch_id = fields.Many2one(
        "llm.generation.provider.batch",
        "Batch at the Provider",
        readonly=True,
        copy=False,
        index="btree_not_null",
        ondelete="set null",
        groups="llm.group_llm_manager",
    )
    batch_lane = fields.Boolean(
        readonly=True,
        copy=False,
        groups="base.group_system",
        help="Waits for a batch of its provider, or for what that answers, and not for an idle"
        " queue.",
    )
    batch_priced = fields.Boolean(
        "Batch Price",
        readonly=True,
        copy=False,
        help="Answered in a batch of the provider, which costs half.",
    )

    #: How far a batch is, and whether it is done, is read from this alone; and its jobs are found.
    _batch_idx = models.Index("(batch_id, state) INCLUDE (retry_at) WHERE batch_id IS NOT NULL")
    _economy_idx = models.Index(
        f"(provider_id, priority, fair_rank, queued_at, id) WHERE {sql.SAVING}"
    )

    #: What gathers, by queue and model, and what waits in a batch of a provider.
    _lane_idx = models.Index(
        f"(provider_batch_id, provider_id, model_id, queued_at) WHERE {sql.IN_LANE}"
    )

    # === ECONOMY === #

    # A date that somebody gave, now or before, stays: it is the latest.

    @api.model_create_multi
    def create(self, vals_list):
        given = self.default_get(["is_economy", "scheduled_at"])
        return super().create([
            {**vals, **self._latest_date({**given, **vals})} for vals in vals_list
        ])

    def write(self, vals):
        dated = self.browse() if "scheduled_at" in vals else self.filtered("scheduled_at")
        latest = self._latest_date(vals)
        if not (latest and dated):
            return super().write({**vals, **latest})
        super(LlmGenerationJob, dated).write(vals)
        return super(LlmGenerationJob, self - dated).write({**vals, **latest})

    @api.model
    def _latest_date(self, vals):
        if not vals.get("is_economy") or vals.get("scheduled_at"):
            return {}
        return {"scheduled_at": fields.Datetime.now() + timedelta(hours=ECONOMY_HOURS)}

    def _schedule(self):
        self.sudo().latest_at = False  # sudo: of a date before, and the engine's
        return super()._schedule()

    def _can_wait(self, seconds):
        """Return whether the answer of a running job may take so long: nobody waits for it yet."""
        job = self.sudo()  # sudo: the notes are the engine's, and the job is the user's own
        if not (job.is_economy and job.latest_at and job.started_at) or job.attempt_count > 1:
            return False
        return job.started_at + timedelta(seconds=seconds) <= job.latest_at

    @api.model
    def _owner_fields(self):
        return super()._owner_fields() | {"is_economy"}

    def _scheduled_sentence(self):
        if not (self.is_economy and self.scheduled_at):
            return super()._scheduled_sentence()
        time, lane = self._clock_time(self.scheduled_at), self.sudo()  # sudo: the engine's note
        if lane.batch_lane and lane.provider_batch_id:
            return self.env._(
                "The provider has it in a batch, at half the price; it runs by itself at %s at the"
                " latest.",
                time,
            )
        if lane.batch_lane:
            return self.env._(
                "Waiting for others, to be answered with them at half the price; it runs by itself"
                " at %s at the latest.",
                time,
            )
        return self.env._(
            "Waiting until the provider has nothing else to do, until %s at the latest.",
            time,
        )

    # === HOOKS === #

    def _after_move(self, target, was_running):
        result = super()._after_move(target, was_running)
        engine = self.env["llm.generation.engine"]
        self.env["llm.generation.batch"]._forget_counts()
        if target == "queued" and len(was_running) < len(self):
            engine._reopen(self)
        self.fetch(LANE_FIELDS)
        if target in {"completed", "cancelled"} and (mended := self.filtered("unfit_output")):
            mended.unfit_output = False
        if target == "queued":
            self._leave_batches()
            (self - was_running)._enter_batch_lane()
        elif batches := self.filtered("batch_lane").provider_batch_id:
            engine._hurry_unwanted(batches)
        if target != "queued" or was_running:
            engine._wake_for_economy(self)
        return result

    def _chat_messages(self):
        """Return the conversation that this job continues, as its service has messages.

        :rtype: list of dicts
        """
        if not self.post:
            return self._asked_messages()
        thread, history, messages = self.thread_id, self.input_message_id, []
        # Without an addon that generates, a thread knows neither its history nor its prompt.
        if hasattr(thread, "get_prepend_messages"):
            messages += thread.get_prepend_messages() or ()
        if hasattr(thread, "get_llm_messages"):
            # The newest ones: what was asked after the question is none of its context.
            history = thread.get_llm_messages()._as_asked(history)
        messages += self.provider_id.format_messages(history, model=self.model_id)
        prompt = (self.generation_inputs or {}).get("prompt")
        if prompt and not self.input_message_id:
            messages.append({"role": "user", "content": str(prompt)})
        return messages

    def _leave_batches(self):
        """Forget the batches of jobs that are tried again: they run by themselves now."""
        if jobs := self.filtered(
            lambda job: job.batch_priced or job.batch_lane or job.provider_batch_id
        ):
            jobs.write({"batch_priced": False, "batch_lane": False, "provider_batch_id": False})

    def _enter_batch_lane(self):
        """Have those of these jobs gather for a batch that may: see `docs/batches.md`."""
        self.fetch(CHOICE_FIELDS)
        waiting = self.filtered(lambda job: job.is_economy and job.is_scheduled)
        if not waiting:
            return
        queues = self.env["llm.generation.queue"].search([
            ("provider_id", "in", waiting.provider_id.ids),
            ("uses_batches", "=", True),
        ])
        least = self.env["llm.generation.engine"]._after(LEAST_TIME)
        jobs = waiting.filtered(
            lambda job: (
                job.provider_id in queues.provider_id
                and not (job.attempt_count or job.provider_batch_id)
                and job.scheduled_at
                and job.scheduled_at > least
                and job.model_id.model_use in BATCHED_USES
                and not job.thread_id.tool_ids
            )
        )
        # Several of a conversation are asked one after the other, each with the answers before.
        talking = jobs.filtered("post").thread_id
        live = self.env["llm.generation.job"]._read_group(
            [("thread_id", "in", talking.ids), ("state", "in", ACTIVE_STATES), ("post", "=", True)],
            ["thread_id"],
            having=[("__count", "=", 1)],
        )
        alone = talking.browse(thread.id for (thread,) in live)
        jobs.filtered(lambda job: not job.post or job.thread_id in alone).batch_lane = True

    def _after_end(self):
        result = super()._after_end()
        if self.batch_id:
            self.env["llm.generation.engine"]._have_ended(self)
        return result

    # === BATCHES === #

    def _auto_init(self):
        self.env.cr.execute(sql.ADD_MAX_REPAIRS)
        return super()._auto_init()

    @api.model
    @api.private
    def create_batch(
        self,
        inputs,
        *,
        threads=None,
        model=None,
        name=None,
        identity_keys=None,
        on_done=None,
        post=True,
        keep_texts=None,
        **job_values,
    ):
        """Queue many generations at once, in the caller's transaction and with few statements.

        The work starts when that commits, and not at all if it rolls back.

        :param list inputs: what is asked, one a job: a prompt, or a dict of `generation_inputs`
        :param threads: where the answers go: one thread for all, in which one job runs at a time
            and sees the earlier answers, or one a job
        :param model: instead of threads, the `llm.model` to ask: each job gets a thread of its own,
            or, without messages, all of them one that is archived
        :param str name: that of the batch, and of the threads that are made
        :param list identity_keys: one a job, or None; a job whose key a live job has is left out
        :param on_done: `(records, method)`: `records.method(batch)` is called once, as the owner,
            when all jobs have ended for good; see `llm.generation.batch._on_done()`
        :param bool post: False posts no message: each job keeps its question and answer, which
            `input_text` and `output_text` tell as those of any other, and runs beside the others
            of its thread
        :param bool keep_texts: True keeps the jobs, and with them what they keep, until they are
            deleted by hand; False has questions and answers removed once the callback has read
            them (it came to its end); None leaves them to the clean-up of all jobs
        :param job_values: `priority`, `scheduled_at` and the like, of all jobs
        :return: the batch, a record of `llm.generation.batch`
        :raise UserError: for lists of different lengths, or inputs that the model refuses
        :raise AccessError: on threads or a model that the user may not use
        """
        self.check_access("create")
        # What a page has as defaults of its own records is none of jobs and threads.
        context = clean_context(self.env.context)
        self = self.with_context(context)  # noqa: PLW0642 # pylint: disable=context-overridden
        inputs, keys = list(inputs), list(identity_keys or [None] * len(inputs))
        keys = ["" if key is None or key is False else str(key) for key in keys]  # 0 is one
        if bool(threads) == bool(model) or len(keys) != len(inputs):
            raise UserError(
                self.env._("A batch needs either threads or a model, and a key for each input.")
            )
        self._refuse_unbounded([{"identity_key": key} for key in keys])
        if threads and len(threads) not in {1, len(inputs)}:
            raise UserError(self.env._("A batch needs one thread for all, or one for each input."))
        if not self.env.su:
            self._check_created_by_user([job_values])
        name = name or self.env._("%s generations", len(inputs))
        provider = (threads or model).provider_id[:1]
        wanted = self._free_places(keys, threads or model)
        shared = self.env["llm.thread"]
        if model and post:
            threads = self._batch_threads(model, [{"name": name}] * len(wanted))
        elif model:
            shared = self._batch_threads(model, [{"name": name, "active": False}])
            threads = list(shared) * len(wanted)
        elif len(threads) == 1:
            threads = list(threads) * len(wanted)
        else:
            threads = [threads[place] for place in wanted]
        company = self._company_of(self.env.user, provider, (threads or [None])[0])
        batch_values = {
            "name": name,
            "user_id": self.env.uid,
            "company_id": company.id,
            "thread_id": shared.id,
            "forgets_texts": keep_texts is False,
            **self._callback_values(on_done),
        }
        # sudo: batches and the jobs in them are made by this method alone; the rights are checked.
        # It forgets the defaults in a request's context, which would choose what only code may.
        batch = self.env["llm.generation.batch"].sudo().create(batch_values)
        # sudo: as above
        jobs = self.sudo().create([
            {
                **job_values,
                "thread_id": thread.id,
                "generation_inputs": self._batch_inputs(inputs[place]),
                "identity_key": keys[place],
                "batch_id": batch.id,
                "post": post,
                "is_kept": bool(keep_texts),
            }
            for place, thread in zip(wanted, threads, strict=True)
        ])
        jobs = jobs.with_env(self.env)
        if not self.env.su:
            jobs._check_owner_rights()
            jobs._check_priority()
        if len(jobs.user_id) == 1:
            batch.user_id = jobs.user_id  # the thread's owner, where OdooBot works
        if jobs:
            jobs.action_queue()
        else:
            self.env["llm.generation.engine"]._look_later(batch)
        return batch.with_env(self.env)

    @api.model
    def _batch_inputs(self, asked):
        return {"prompt": asked} if isinstance(asked, str) else asked

    @api.model
    def _callback_values(self, on_done):
        if not on_done:
            return {}
        records, method = on_done
        if not callable(getattr(records, method, None)):
            raise UserError(self.env._("%s has no method of that name.", records._name))
        return {
            "callback_model": records._name,
            "callback_ids": list(records.ids),
            "callback_method": method,
        }

    @api.model
    def _batch_threads(self, model, values_list):
        """Make threads; in a common one each job that posts would see the others' answers."""
        threads = self.env["llm.thread"]
        place = {"provider_id": model.provider_id.id, "model_id": model.id}
        # Neither a note nor a follower in each: they take longer than all the rest.
        quiet = threads.with_context(
            tracking_disable=True, mail_create_nosubscribe=True, mail_create_nolog=True
        )
        return quiet.create([{**place, **values} for values in values_list]).with_env(threads.env)

    @api.model
    def _free_places(self, keys, sources):
        """Return the places in the batch whose key neither a live job nor an earlier place has.

        :param sources: the threads of the jobs, or the model of all
        """
        # sudo: a key is taken, whoever took it.
        live = self.sudo().search([
            ("identity_key", "in", [key for key in keys if key]),
            ("identity_scope", "=", 0),
            ("state", "in", ACTIVE_STATES),
        ])
        taken = {(job.company_id, job.identity_key) for job in live}
        free = []
        for place, key in enumerate(keys):
            source = sources[place] if len(sources) > 1 else sources
            full_key = key and (self._company_in(source), key)
            if not key or full_key not in taken:
                taken.add(full_key)
                free.append(place)
        return free

    @api.model
    def _company_in(self, source):
        """Return the company of a job in a thread, or in one that is made for a model."""
        if source._name == "llm.thread":
            return self._company_of(self._owner_in(source), source.provider_id, source)
        return self._company_of(self.env.user, source.provider_id)
