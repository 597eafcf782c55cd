"""What the tests of rights of each addon inherit: its table, tried cell by cell.

An addon has a `security/RIGHTS.md` with up to three tables, *Records*, *Methods* and *Routes*. What
the addon brings and no row has fails, and so does a row that is not as it says.
"""

import functools
import logging
import re
from inspect import getmembers
from pathlib import Path

from psycopg2 import IntegrityError

from odoo import SUPERUSER_ID
from odoo.exceptions import AccessError, UserError
from odoo.http import Controller, Request
from odoo.models import BaseModel
from odoo.modules.module import get_module_path
from odoo.service.model import call_kw, get_public_method
from odoo.tests import new_test_user
from odoo.tools import file_open, mute_logger

from .common import user_groups

_logger = logging.getLogger(__name__)

ROLES = ("public", "portal", "owner", "other", "manager", "elsewhere", "code")
OPERATIONS = {"c": "create", "r": "read", "w": "write", "u": "unlink"}
#: What says of a refusal what the test sees anyway.
QUIET = ("odoo.models", "odoo.orm.models", "odoo.sql_db")
#: Statuses of an answer that gives nothing away.
REFUSED = {400, 401, 403, 404}


def read_table(addon, title):
    """Return a table of an addon's page by its first column, each row a dict of its other cells."""
    with file_open(f"{get_module_path(addon)}/security/RIGHTS.md") as page:
        section = page.read().partition(f"\n## {title}\n")[2]
    lines = re.findall(r"^\|(.+)\|$", section.partition("\n## ")[0], re.MULTILINE)
    if not lines:
        return {}
    head, _rule, *rows = [[cell.strip() for cell in line.split("|")] for line in lines]
    return {name: dict(zip(head[1:], cells, strict=True)) for name, *cells in rows}


def table_of(addon, title):
    """Return a table of an addon as it holds here: with what another `llm` than ours changes."""
    table = read_table(addon, title)
    return table if has_table("llm") else table | read_table(addon, f"{title} on another llm")


def own_models(env, addon):
    """Return the names of the models with records that an addon defines, or extends as the first.

    One of another addon that has a table is there; what is added to its methods is told here.
    """
    return {
        name
        for name in env.registry
        if not env[name]._abstract
        and any(_is_of(cls, addon) for cls in type(env[name])._base_classes__)
        and _teller(env[name]) in {addon, None}
    }


def _teller(model):
    """Return the addon whose table tells of a model of the family; None for other models.

    Where the addon that defines it has no table, the first that extends it and has one.
    """
    addons = [_addon_of(cls) for cls in reversed(type(model).mro())]
    addons.insert(0, model._original_module)
    if not (model._name.startswith("llm.") or has_table(addons[0])):
        return None
    return next((addon for addon in addons if has_table(addon)), None)


def own_public_methods(env, addon):
    """Return the `model.method` that classes of an addon bring within the reach of an RPC.

    Those of `BaseModel` are not among them: the table of records tries what they do.
    """
    return {
        f"{name}.{method}"
        for name in env.registry
        for cls in type(env[name]).mro()
        if _is_of(cls, addon)
        for method, value in vars(cls).items()
        if not method.startswith("_")
        and callable(value)
        and not hasattr(BaseModel, method)
        and is_reachable(env[name], method)
        and not _is_told_elsewhere(type(env[name]), cls, method)
    }


def is_reachable(model, method):
    """Whether a remote call gets to a method of a model."""
    try:
        return bool(get_public_method(model, method))
    except (AccessError, AttributeError):
        return False


def own_routes(addon):
    """Return the addresses that an addon answers at."""
    found, todo = set(), [Controller]
    while todo:
        cls = todo.pop()
        todo += cls.__subclasses__()
        if _is_of(cls, addon):
            for name, method in getmembers(cls, callable):
                if name in vars(cls) and hasattr(method, "original_routing"):
                    found.update(method.original_routing["routes"])
    return found


def _is_of(cls, addon):
    module = f"{cls.__module__}."
    inside = f"odoo.addons.{addon}."
    return module.startswith(inside) and not module.startswith(f"{inside}tests.")


@functools.cache
def has_table(addon):
    """Return whether an addon tells who may do what there."""
    folder = addon and get_module_path(addon, display_warning=False)
    return bool(folder) and Path(folder, "security", "RIGHTS.md").is_file()


def _is_told_elsewhere(model_class, cls, method):
    """Whether another line tells what it may do.

    That of an addon whose method `cls` extends, or of the model that this one is made like.
    """
    mro, addon = model_class.mro(), _addon_of(cls)
    if any(cls in base._base_classes__ for base in mro[1:] if _is_like(model_class, base)):
        return True
    return any(
        method in vars(base) and _addon_of(base) != addon and has_table(_addon_of(base))
        for base in mro[mro.index(cls) + 1 :]
    )


def _is_like(model_class, base):
    """Whether a model has all that another one has, under a name of its own."""
    return (
        hasattr(base, "_base_classes__")
        and base._name not in {None, model_class._name}
        and not base._abstract
    )


def _addon_of(cls):
    parts = cls.__module__.split(".")
    return parts[2] if parts[:2] == ["odoo", "addons"] else None


class RightsRoles:
    """Somebody of each kind. `self.user` is the owner, `self.manager` the manager."""

    # Odoo runs no inherited tests of other modules unless it is told to.
    allow_inherited_tests_method = True
    #: the addon whose table it is
    addon: str

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        env = cls.env
        if not hasattr(cls, "user"):
            cls.user = new_test_user(env, "matrix_user", user_groups(env))
            cls.manager = new_test_user(env, "matrix_manager", "llm.group_llm_manager")
        company = env["res.company"].create({"name": "Elsewhere"})
        foreign = {"company_id": company.id, "company_ids": [(6, 0, company.ids)]}
        cls.uids = {
            "public": env.ref("base.public_user").id,
            "portal": new_test_user(env, "matrix_portal", "base.group_portal").id,
            "owner": cls.user.id,
            "other": new_test_user(env, "matrix_other", user_groups(env)).id,
            "manager": cls.manager.id,
            "elsewhere": new_test_user(
                env, "matrix_foreign", "llm.group_llm_manager", **foreign
            ).id,
            "code": SUPERUSER_ID,
        }

    def _rpc(self, role, model, method, *args):
        """Call as `execute_kw` and the web client do, and take back what it did.

        :return: what the call returns, or the exception with which it is refused
        """
        self.env.flush_all()
        with self.env.cr.savepoint() as savepoint, mute_logger(*QUIET):
            self.env.invalidate_all()
            try:
                env = self.env(user=self.uids[role], context={}, su=False)
                result = call_kw(env[model], method, list(args), {})
                self.env.flush_all()
            except (AccessError, UserError, IntegrityError) as refusal:
                result = refusal
            self.env.invalidate_all(flush=False)
            savepoint.rollback()
        self.env.invalidate_all(flush=False)
        return result


class RightsMatrix(RightsRoles):
    """Tries the tables of records and of methods, and what models have of `mail.thread`."""

    #: of `mail.thread`: what reads only, and what takes records, which no remote call can hand over
    MAIL_METHODS_THAT_CHANGE_NOTHING = frozenset({
        "message_change_thread",
        "message_get_followers",
        "message_parse",
        "message_route",
    })

    def _sample(self, name):
        """Return a record of the owner's, values to create one, and values to write."""
        raise KeyError(name)

    def _call_of(self, method):
        """Return the record and the arguments that a `model.method` is tried with."""
        raise KeyError(method)

    def test_each_model_has_a_line(self):
        rows = read_table(self.addon, "Records").keys()
        self.assertEqual(own_models(self.env, self.addon) - rows, set())
        self.assertEqual({name for name in rows if name not in self.env.registry}, set())

    def test_records(self):
        for name, cells in table_of(self.addon, "Records").items():
            record, new, changed = self._sample(name)
            calls = {
                "c": (new,),
                "r": (record.ids, ["display_name"]),
                "w": (record.ids, changed),
                "u": (record.ids,),
            }
            for role in ROLES:
                done = {
                    letter: self._rpc(role, name, OPERATIONS[letter], *arguments)
                    for letter, arguments in calls.items()
                    # To code, PostgreSQL says that a view has no rows to write.
                    if letter == "r" or role != "code" or record._auto
                }
                can = "".join(letter for letter in done if not isinstance(done[letter], Exception))
                with self.subTest(model=name, role=role):
                    self.assertEqual(can or "-", cells[role], done)

    def test_each_method_has_a_line(self):
        lines = set(table_of(self.addon, "Methods"))
        methods = own_public_methods(self.env, self.addon)
        self.assertEqual((lines - methods, methods - lines), (set(), set()))

    def test_methods(self):
        for method, cells in table_of(self.addon, "Methods").items():
            model, _dot, name = method.rpartition(".")
            record, arguments = self._call_of(method)
            is_model_method = getattr(getattr(type(record), name), "_api_model", False)
            ids = () if is_model_method else (record.ids,)
            for role in ROLES:
                result = self._rpc(role, model, name, *ids, *arguments)
                with self.subTest(method=method, role=role):
                    refused = isinstance(result, Exception)
                    if refused:
                        self.assertIsInstance(result, AccessError, result)
                    self.assertEqual("-" if refused else "yes", cells[role], result)

    # === WHAT MODELS HAVE OF MAIL === #
    # Odoo's methods have no line in a table. Some work as superuser with what they are given.

    def _records_with_mail(self):
        """Return records of the owner's, or that only managers write, of models of the addon."""
        return ()

    def _gateway_calls(self, record):
        """Return calls that nobody may make, the superuser neither: `(method, args, kwargs)`."""
        # sudo: as the one who forges a mail knows it.
        sender = self.env["res.users"].browse(self.uids["owner"]).sudo()
        sender.email = sender.email or "matrix.owner@example.com"
        values = {
            name: field.convert_to_write(record[name], record)
            for name, field in record._fields.items()
            if field.store and field.required and not field.compute
        }
        mail = (
            f"From: {sender.email}\nTo: nobody@example.com\nSubject: Mail\n"
            f"Message-Id: <{record._table}-{record.id}@example.com>\n"
            "Content-Type: text/plain\n\nForged"
        )
        model = record._name
        for through in (model, "mail.thread", "res.partner"):
            yield through, "message_process", (model, mail, values), {}
            yield through, "message_process", (model, mail), {}
            yield through, "message_process", (model, mail), {"thread_id": record.id}
        yield model, "message_new", ({"subject": "Mail"}, values), {}
        yield model, "message_update", (record.ids, {}, {record._rec_name: "Forged"}), {}

    def _message_calls(self, record):
        """Return calls that who may write the record may make."""
        partner = self.env["res.users"].browse(self.uids["owner"]).partner_id
        others = self.env.ref("base.partner_root").ids
        subtype = self.env.ref("llm.mt_user").id
        view = "mail.message_notification_email"
        model, ids = record._name, record.ids
        yield model, "message_post", (ids,), {"body": "Forged", "subtype_id": subtype}
        forged = {"body": "Forged", "partner_ids": partner.ids, "subtype_id": subtype}
        yield model, "message_notify", (ids,), forged
        yield model, "message_notify", ([],), {**forged, "model": model, "res_id": record.id}
        yield model, "message_post_with_source", (ids, view), {"subtype_id": subtype}
        yield model, "message_mail_with_source", (ids, view), {}
        yield model, "message_subscribe", (ids, others), {}
        yield model, "message_unsubscribe", (ids, partner.ids), {}

    def _tried(self, role, record, model, method, args, kwargs):
        """Return what a remote call changed of a model and a record of it, and take it back."""
        self.env.flush_all()
        before = self._seen(record)
        with self.env.cr.savepoint() as savepoint, mute_logger(*QUIET):
            self.env.invalidate_all()
            try:
                with self.env.cr.savepoint():
                    env = self.env(user=self.uids[role], context={}, su=False)
                    call_kw(env[model], method, list(args), dict(kwargs))
                    self.env.flush_all()
            except Exception as refusal:  # noqa: BLE001 - whatever it is, what came of it counts
                _logger.debug("%s of %s by %s: %s", method, model, role, refusal)
            self.env.invalidate_all(flush=False)
            after = self._seen(record)
            savepoint.rollback()
        self.env.invalidate_all(flush=False)
        return {name: after[name] for name in after if after[name] != before[name]}

    def _seen(self, record):
        about = [("model", "=", record._name)]
        if record._name != "llm.thread":
            # A notification stands where it is sent to, not on the record. A model gets all.
            about += [("message_type", "!=", "user_notification")]
        return {
            "records": record.sudo().with_context(active_test=False).search([]).ids,
            "name": record.sudo().display_name,
            "messages": self.env["mail.message"].sudo().search(about).mapped("body"),
            "followers": sorted(record.sudo().message_partner_ids.ids),
        }

    def test_each_method_of_mail_is_tried(self):
        for record in self._records_with_mail():
            calls = [*self._gateway_calls(record), *self._message_calls(record)]
            tried = {method for _model, method, _args, _kwargs in calls}
            inherited = {
                name
                for name in dir(type(record))
                if name.startswith("message_")
                and callable(getattr(type(record), name))
                and is_reachable(record, name)
            }
            with self.subTest(model=record._name):
                missing = inherited - tried - self.MAIL_METHODS_THAT_CHANGE_NOTHING
                self.assertEqual(missing, set())

    def test_no_mail_changes_anything(self):
        for record in self._records_with_mail():
            for model, method, args, kwargs in self._gateway_calls(record):
                for role in ROLES:
                    with self.subTest(model=model, method=method, kwargs=kwargs, role=role):
                        changed = self._tried(role, record, model, method, args, kwargs)
                        self.assertEqual(changed, {})

    def test_nobody_says_anything_where_another_writes(self):
        for record in self._records_with_mail():
            for model, method, args, kwargs in self._message_calls(record):
                for role in ROLES:
                    env = self.env(user=self.uids[role], su=False)
                    if record.with_env(env).has_access("write"):
                        continue
                    with self.subTest(model=model, method=method, role=role):
                        changed = self._tried(role, record, model, method, args, kwargs)
                        self.assertEqual(changed, {})

    def test_who_writes_a_record_says_something_there(self):
        """What the others are refused works: they are refused for their rights."""
        for record in self._records_with_mail():
            model, method, args, kwargs = next(iter(self._message_calls(record)))
            with self.subTest(model=model):
                changed = self._tried("code", record, model, method, args, kwargs)
                self.assertIn("messages", changed)


class RightsRoutes(RightsRoles):
    """Tries the table of routes; to be mixed with `HttpCase`. Code does not log in: no column."""

    def _request_of(self, route):
        """Return the address that a route is tried with, and what is posted (None for a GET)."""
        raise KeyError(route)

    def test_each_route_has_a_line(self):
        self.assertEqual(read_table(self.addon, "Routes").keys(), own_routes(self.addon))

    def test_routes(self):
        for route, cells in read_table(self.addon, "Routes").items():
            for role in ROLES[:-1]:
                login = self.env["res.users"].browse(self.uids[role]).login
                is_public = role == "public"
                self.authenticate(None if is_public else login, None if is_public else login)
                address, data = self._request_of(route)
                if data is not None:
                    data = {**data, "csrf_token": Request.csrf_token(self)}
                with mute_logger("odoo.http"):
                    response = self.url_open(address, data=data, allow_redirects=False)
                with self.subTest(route=route, role=role):
                    refused = response.status_code in REFUSED | {303}
                    self.assertTrue(refused or response.status_code == 200, response.status_code)
                    self.assertEqual("-" if refused else "yes", cells[role], response.text[:200])
