import re
from pathlib import Path

from odoo import SUPERUSER_ID
from odoo.exceptions import AccessError, UserError
from odoo.models import BaseModel
from odoo.service.model import call_kw, get_public_method
from odoo.tests import new_test_user
from odoo.tools import mute_logger

from .common import LlmGenerationCommon

TABLE = Path(__file__).parents[1] / "security" / "RIGHTS.md"
ROLES = ("public", "portal", "owner", "other", "manager", "elsewhere", "code")
OPERATIONS = {"c": "create", "r": "read", "w": "write", "u": "unlink"}
OURS = "odoo.addons.llm_generate_job."


def read_table(title):
    """Return a table of the page by its first column, each row a dict of its other cells."""
    section = TABLE.read_text(encoding="utf-8").partition(f"\n## {title}\n")[2]
    lines = re.findall(r"^\|(.+)\|$", section.partition("\n## ")[0], re.MULTILINE)
    head, _rule, *rows = [[cell.strip() for cell in line.split("|")] for line in lines]
    return {name: dict(zip(head[1:], cells, strict=True)) for name, *cells in rows}


def own_public_methods(env):
    """Return the `model.method` that classes of this addon bring within the reach of an RPC."""
    found = set()
    for name in env.registry:
        for cls in type(env[name]).mro():
            if not cls.__module__.startswith(OURS):
                continue
            if cls.__module__.startswith(f"{OURS}tests"):
                continue
            for method, value in vars(cls).items():
                if method.startswith("_") or not callable(value) or hasattr(BaseModel, method):
                    continue
                if _is_reachable(env[name], method) and not _is_older(type(env[name]), method):
                    found.add(f"{name}.{method}")
    return found


def _is_reachable(model, method):
    try:
        return bool(get_public_method(model, method))
    except AccessError:
        return False


def _is_older(cls, method):
    """Whether another addon brings the method: then what it may do is told there."""
    return any(method in vars(base) and OURS not in f"{base.__module__}." for base in cls.mro()[1:])


class TestRightsMatrix(LlmGenerationCommon):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        company = cls.env["res.company"].create({"name": "Elsewhere"})
        new_user, env = new_test_user, cls.env
        foreign = {"company_id": company.id, "company_ids": [(6, 0, company.ids)]}
        cls.uids = {
            "public": env.ref("base.public_user").id,
            "portal": new_user(env, "matrix_portal", "base.group_portal").id,
            "owner": cls.user.id,
            "other": new_user(env, "matrix_other", "base.group_user").id,
            "manager": cls.manager.id,
            "elsewhere": new_user(env, "matrix_foreign", "llm.group_llm_manager", **foreign).id,
            "code": SUPERUSER_ID,
        }
        cls.thread = cls._create_thread()

    def _rpc(self, role, model, method, *args):
        """Call as `execute_kw` and the web client do, and take back what it did."""
        with self.env.cr.savepoint() as savepoint, mute_logger("odoo.orm.models", "odoo.models"):
            try:
                env = self.env(user=self.uids[role], context={}, su=False)
                result = call_kw(env[model], method, list(args), {})
                self.env.flush_all()
            except (AccessError, UserError) as refusal:
                result = refusal
            self.env.invalidate_all(flush=False)
            savepoint.rollback()
        self.env.invalidate_all(flush=False)
        return result

    # === RECORDS === #

    def _sample(self, name):  # noqa: C901 a line for each model
        """Return a record of the owner's, values to create one, and values to write."""
        limit = {"queue_id": self.queue.id, "model_id": self.native_model.id}
        match name:
            case "llm.generation.job":
                job = self._create_job(thread_id=self.thread.id)
                return job, {"thread_id": self.thread.id}, {"priority": 3}
            case "llm.generation.attempt":
                attempt = self._create_job("running").attempt_ids
                return attempt, {"job_id": attempt.job_id.id}, {"outcome": "completed"}
            case "llm.generation.report":
                job = self._create_job("completed", thread_id=self.thread.id)
                return self.env[name].browse(job.id), {"job_id": job.id}, {"state": "failed"}
            case "llm.generation.queue":
                provider, _model = self._create_provider("Queueless", "fakenative")
                self.env.cr.execute(
                    "DELETE FROM llm_generation_queue WHERE provider_id = %s", [provider.id]
                )
                return self.queue, {"provider_id": provider.id}, {"max_concurrent_jobs": 9}
            case "llm.generation.model.limit":
                record = self.env[name].create(limit | {"model_id": self._second_model().id})
                return record, limit, {"max_concurrent_jobs": 2}
            case "llm.generation.runner":
                now = {"started_at": "2026-01-01 00:00:00", "heartbeat_at": "2026-01-01 00:00:00"}
                return (
                    self.env[name].create({"name": "r", **now}),
                    {"name": "s", **now},
                    {"slots": 1},
                )
            case "llm.generation.bucket":
                bucket = self.env[name].search([("queue_id", "=", self.direct_queue.id)])
                bucket.unlink()
                bucket = self.env[name].create({"queue_id": self.direct_queue.id})
                self.env[name].search([("queue_id", "=", self.queue.id)]).unlink()
                return bucket, {"queue_id": self.queue.id}, {"token_level": 9.0}
            case "llm.generation.farewell":
                values = {"provider_id": self.native.id, "job_number": 7, "external_job_id": "x"}
                return self.env[name].create(values), values, {"external_job_id": "y"}
            case "llm.generation.spending":
                values = {"job_id": 7, "day": "2026-01-01", "jobs": 1, "tokens": 2, "attempts": 0}
                values |= {"user_id": self.user.id, "xid": "1"}
                return self.env[name].create(values), values, {"tokens": 0}
            case "llm.generation.prioritise":
                return self.env[name].create({}), {"priority": 1}, {"priority": 2}
            case "llm.thread":
                model = self.native_model
                values = {"user_id": self.user.id, "provider_id": self.native.id, "name": "T"}
                return self._create_thread(), values | {"model_id": model.id}, {"name": "Mine"}
            case "llm.provider":
                provider = self.env[name].create({"name": "P", "service": "fakenative"})
                values = {"name": "Q", "service": "fakenative", "company_id": self.env.company.id}
                return provider, values, {"name": "R"}
            case "res.config.settings":
                return self.env[name].create({}), {}, {"llm_generation_job_timeout": 3}
        raise KeyError(name)

    def _second_model(self):
        return self.native_model.copy({"name": "Second"})

    def test_each_model_has_a_line(self):
        engine = {
            name
            for name in self.env.registry
            if name.startswith("llm.generation.")
            and not self.env[name]._abstract
            and self.env[name]._original_module == "llm_generate_job"
        }
        extended = {"llm.thread", "llm.provider", "res.config.settings"}
        self.assertEqual(read_table("Records").keys(), engine | extended)

    def test_records(self):
        rows = read_table("Records")
        self.assertEqual(tuple(next(iter(rows.values()))), ROLES)
        for name, cells in rows.items():
            record, new, changed = self._sample(name)
            self.env.invalidate_all()
            calls = {
                "c": (new,),
                "r": (record.ids,),
                "w": (record.ids, changed),
                "u": (record.ids,),
            }
            for role, cell in cells.items():
                done = {
                    letter: self._rpc(role, name, OPERATIONS[letter], *arguments)
                    for letter, arguments in calls.items()
                    # To code, PostgreSQL says that a view has no rows to write.
                    if letter == "r" or role != "code" or record._auto
                }
                can = "".join(letter for letter in done if not isinstance(done[letter], Exception))
                with self.subTest(model=name, role=role):
                    self.assertEqual(can or "-", cell, done)

    def test_nobody_logs_in_as_the_superuser(self):
        root = self.env["res.users"].browse(SUPERUSER_ID)
        self.assertFalse(root.active)
        self.assertFalse(self.env["res.users"].search([("id", "=", SUPERUSER_ID)]))

    # === METHODS === #

    def _call_of(self, method):
        """Return the record and the arguments that a method is tried with."""
        model, _dot, name = method.rpartition(".")
        states = {
            "action_queue": "draft",
            "check_status": "running",
            "action_start": "queued",
            "action_retry": "failed",
            "action_bulk_retry": "failed",
            "action_retry_last_failed_generation": "failed",
            "action_open_job": "completed",
        }
        job = self._create_job(states.get(name, "queued"))
        records = {
            "llm.generation.job": job,
            "llm.generation.report": self.env["llm.generation.report"].browse(job.id),
            "llm.generation.queue": self.queue,
            "llm.thread": job.thread_id,
            "llm.provider": self.native,
        }
        if model == "llm.generation.prioritise":
            return self.env[model].create({}), ()
        arguments = {"apply_bulk": ("cancel",), "press_dashboard_button": ("pause",)}
        return records[model], arguments.get(name, ())

    def test_each_method_has_a_line(self):
        lines, methods = set(read_table("Methods")), set(own_public_methods(self.env))
        self.assertEqual((lines - methods, methods - lines), (set(), set()))

    def test_methods(self):
        self.service.answers["check"] = [{"state": "running"}]
        for method, cells in read_table("Methods").items():
            model, _dot, name = method.rpartition(".")
            record, arguments = self._call_of(method)
            is_model_method = getattr(getattr(type(record), name), "_api_model", False)
            ids = () if is_model_method else (record.ids,)
            self.env.invalidate_all()
            for role in ROLES:
                result = self._rpc(role, model, name, *ids, *arguments)
                with self.subTest(method=method, role=role):
                    refused = isinstance(result, Exception)
                    if refused:
                        self.assertIsInstance(result, AccessError, result)
                    self.assertEqual("-" if refused else "yes", cells[role], result)
