"""What the tests of rights of each addon inherit: its table, tried cell by cell.

An addon has a `security/RIGHTS.md` with up to three tables, *Records*, *Methods* and *Routes*. What
the addon brings and no row has fails, and so does a row that is not as it says.
"""

import re
from inspect import getmembers

from psycopg2 import IntegrityError

from odoo import SUPERUSER_ID
from odoo.exceptions import AccessError, UserError
from odoo.http import Controller, Request
from odoo.models import BaseModel
from odoo.modules.module import get_module_path
from odoo.service.model import call_kw, get_public_method
from odoo.tests import new_test_user
from odoo.tools import file_open, mute_logger

ROLES = ("public", "portal", "owner", "other", "manager", "elsewhere", "code")
OPERATIONS = {"c": "create", "r": "read", "w": "write", "u": "unlink"}
#: How the names of all addons begin that have a table of their own.
FAMILY = "odoo.addons.llm"
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


def own_models(env, addon):
    """Return the names of the models with records that an addon defines, or extends as the first.

    One of another addon that has a table is there; what is added to its methods is told here.
    """
    return {
        name
        for name in env.registry
        if not env[name]._abstract
        and any(_is_of(cls, addon) for cls in type(env[name])._base_classes__)
        and (env[name]._original_module == addon or not _has_table(env[name]._original_module))
    }


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


def _has_table(addon):
    return f"odoo.addons.{addon}".startswith(FAMILY)


def _is_told_elsewhere(model_class, cls, method):
    """Whether the table of another addon, whose method `cls` extends, tells what it may do."""
    mro, addon = model_class.mro(), cls.__module__.split(".")[2]
    return any(
        method in vars(base) and base.__module__.startswith(FAMILY) and not _is_of(base, addon)
        for base in mro[mro.index(cls) + 1 :]
    )


class RightsRoles:
    """Somebody of each kind. `self.user` is the owner, `self.manager` the manager."""

    # Odoo runs no inherited tests of other modules unless it is told to.
    allow_inherited_tests_method = True
    #: the addon whose table it is
    addon: str

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if not hasattr(cls, "user"):
            cls.user = new_test_user(cls.env, "matrix_user", "base.group_user")
            cls.manager = new_test_user(cls.env, "matrix_manager", "llm.group_llm_manager")
        company = cls.env["res.company"].create({"name": "Elsewhere"})
        env, foreign = cls.env, {"company_id": company.id, "company_ids": [(6, 0, company.ids)]}
        cls.uids = {
            "public": env.ref("base.public_user").id,
            "portal": new_test_user(env, "matrix_portal", "base.group_portal").id,
            "owner": cls.user.id,
            "other": new_test_user(env, "matrix_other", "base.group_user").id,
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
    """Tries the tables of records and of methods."""

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
        for name, cells in read_table(self.addon, "Records").items():
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
        lines = set(read_table(self.addon, "Methods"))
        methods = own_public_methods(self.env, self.addon)
        self.assertEqual((lines - methods, methods - lines), (set(), set()))

    def test_methods(self):
        for method, cells in read_table(self.addon, "Methods").items():
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
