"""The list of deliberate breaks in tests/mutations.toml: what each breaks, and what must tell."""

import ast
import tomllib
from dataclasses import dataclass

from . import fault_scripts, inventory, modules, paths

LIST = paths.ROOT / "tests" / "mutations.toml"


@dataclass(frozen=True)
class Mutation:
    """One guard, and how to take it away.

    `tests` are names of tests in Odoo, `Class.method` or `module:Class.method`; `faults` those of
    scripts of dev/faults/. `update` names the module to upgrade where more than Python changes,
    `alone` the one to install where those that stand on it would guard the same once more.
    """

    name: str
    guard: str
    file: str
    old: str
    new: str
    tests: tuple = ()
    faults: tuple = ()
    update: str = ""
    alone: str = ""

    def broken(self, text):
        """Return the text of the file without the guard.

        :raise ValueError: when the old text is not there exactly once
        """
        count = text.count(self.old)
        if count != 1:
            raise ValueError(f"{self.name}: its old text is {count} times in {self.file}, not once")
        return text.replace(self.old, self.new)

    def wanted(self):
        """Return the tests in Odoo as (module, "Class.method")."""
        parts = (test.rpartition(":") for test in self.tests)
        return [(module or paths.MODULE, name) for module, _colon, name in parts]


def read(path=LIST):
    """Return the mutations of the list, in its order."""
    rows = tomllib.loads(path.read_text(encoding="utf-8"))["mutation"]
    return [
        Mutation(**{
            key: tuple(value) if isinstance(value, list) else value for key, value in row.items()
        })
        for row in rows
    ]


def faults_of(mutations):
    """Return what has rotted in the list: texts and tests that are no longer there."""
    written = {
        (module, f"{case}.{method}")
        for module, folder in modules.folders().items()
        for _module, _file, case, method in inventory.written_tests(module, folder)
    }
    scripts = {path.stem for path in fault_scripts.scripts()}
    names = [mutation.name for mutation in mutations]
    found = [f"{name} is listed twice" for name in {n for n in names if names.count(n) > 1}]
    for mutation in mutations:
        found += _file_faults(mutation)
        missing = [f"{module}:{name}" for module, name in set(mutation.wanted()) - written]
        missing += sorted(set(mutation.faults) - scripts)
        found += [f"{mutation.name}: there is no test {test}" for test in missing]
        if not (mutation.tests or mutation.faults):
            found.append(f"{mutation.name}: it names no test")
    return found


def _file_faults(mutation):
    path = paths.ROOT / mutation.file
    if not path.is_file():
        return [f"{mutation.name}: there is no file {mutation.file}"]
    try:
        broken = mutation.broken(path.read_text(encoding="utf-8"))
        if path.suffix == ".py":
            ast.parse(broken)
    except (SyntaxError, ValueError) as error:
        return [f"{mutation.name}: {error}"]
    return []
