"""The measures of the house: how much there is of it, and how entangled it is.

Of the addon at the root, without migrations, tests and tools; of the tools; and of the root. `BARS`
are what they may come to. A measure that is above its bar, and is not among those that are still
`OPEN`, is a complaint of `make lint`; so is one that is open and has come down.
"""

import ast
import re

from . import linters, paths

JOB = "llm.generation.job"
#: Measure: the most that it may be.
BARS = {
    "lines of Python": 7000,
    "files of Python": 50,
    "abstract models": 4,
    "classes": 60,
    "largest cycle of models": 3,
    "indexes of the job": 12,
    "entries of the root": 25,
    "lines of README.md": 200,
    "lines of tools": 6000,
}
#: What is above its bar, and is being brought down.
OPEN = {
    "lines of Python",
    "classes",
    "lines of tools",
}
_APART = ("addons/", "dev/", "migrations/", "tests/")
_MODELS = {"Model", "AbstractModel", "TransientModel"}


def measure():
    """Return {measure: figure}; besides those of `BARS`, some that have none."""
    files = linters.tracked()
    own = [name for name in files if name.endswith(".py") and not name.startswith(_APART)]
    texts = {name: (paths.ROOT / name).read_text(encoding="utf-8") for name in own}
    trees = [ast.parse(text) for text in texts.values()]
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    tools = [name for name in files if name.startswith("dev/")]
    return {
        "lines of Python": sum(text.count("\n") for text in texts.values()),
        "files of Python": sum(not name.endswith("__init__.py") for name in own),
        "abstract models": sum(_base(node) == "AbstractModel" and bool(_value(node, "_name"))
                               for node in classes),
        "classes": len(classes),
        "largest cycle of models": len(largest_cycle(_lookups(classes))),
        "indexes of the job": _indexes(classes),
        "entries of the root": len({name.partition("/")[0] for name in files}),
        "lines of README.md": (paths.ROOT / "README.md").read_text("utf-8").count("\n"),
        "lines of tools": _lines(name for name in tools if not name.startswith("dev/faults/")),
        "lines of fault scripts": _lines(name for name in tools if name.startswith("dev/faults/")),
    }  # fmt: skip


def complaints():
    found = measure()
    above = {name for name, bar in BARS.items() if found[name] > bar}
    return "\n".join(
        [f"{name}: {found[name]:,}, at most {BARS[name]:,}" for name in sorted(above - OPEN)]
        + [f"{name}: {found[name]:,} is within its bar, drop it from OPEN"
           for name in sorted(OPEN - above)]
    )  # fmt: skip


def _lines(names):
    return sum(
        (paths.ROOT / name).read_bytes().count(b"\n")
        for name in names
        if name.endswith((".py", ".js", ".cjs", ".sh"))
    )


def _base(node):
    """Return which of Odoo's classes of models a class is made from, '' for none."""
    return next((base.attr for base in node.bases if isinstance(base, ast.Attribute)
                 and base.attr in _MODELS), "")  # fmt: skip


def _value(node, name):
    """Return the constant, or list of constants, that a class has under a name."""
    for item in node.body:
        if isinstance(item, ast.Assign) and getattr(item.targets[0], "id", "") == name:
            return ast.literal_eval(item.value)
    return None


def _model(node):
    """Return the name of the model that a class makes or extends."""
    return _value(node, "_name") or next(iter(_inherited(node)), None)


def _inherited(node):
    inherited = _value(node, "_inherit") or []
    return inherited if isinstance(inherited, list) else [inherited]


def _lookups(classes):
    """Return {model: the models of ours that it looks up as env["name"]}.

    What a model inherits is a part of it, and looks up for it.
    """
    found, parents = {}, {}
    for node in filter(_base, classes):
        names = {
            one.slice.value
            for one in ast.walk(node)
            if isinstance(one, ast.Subscript) and isinstance(one.slice, ast.Constant)
            if re.search(r"\benv$", ast.unparse(one.value))
        }
        found.setdefault(_model(node), set()).update(names)
        parents.setdefault(_model(node), set()).update(_inherited(node))
    for _generation in range(4):
        for name, own in found.items():
            own.update(*(found.get(parent, ()) for parent in parents[name]))
    return {name: names & found.keys() for name, names in found.items()}


def largest_cycle(graph):
    """Return the largest set of names each of which leads to each other.

    >>> sorted(largest_cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}, "e": set()}))
    ['a', 'b', 'c']
    """

    def reached(start):
        seen, todo = set(), [start]
        while todo:
            new = graph[todo.pop()] - seen
            seen |= new
            todo += new
        return seen

    leads = {name: reached(name) for name in graph}
    cycles = ({other for other in leads[name] if name in leads[other]} for name in graph)
    return max(cycles, key=len, default=set())


def _indexes(classes):
    """Return how many indexes the job's table has: of fields, of its own, and of its key."""
    mixins = {_value(node, "_name"): node for node in classes if _base(node) == "AbstractModel"}
    nodes = [node for node in classes if _base(node) and _model(node) == JOB]
    names = {name for node in nodes for name in _inherited(node) if name in mixins}
    calls = [
        one
        for node in (*nodes, *(mixins[name] for name in names))
        for one in ast.walk(node)
        if isinstance(one, ast.Call) and isinstance(one.func, ast.Attribute)
    ]
    own = sum(one.func.attr in {"Index", "UniqueIndex"} for one in calls)
    of_fields = sum(
        keyword.arg == "index" and ast.unparse(keyword.value) not in {"False", "None"}
        for one in calls
        for keyword in one.keywords
    )
    return 1 + own + of_fields
