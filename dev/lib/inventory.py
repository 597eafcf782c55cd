"""The tests that are written, found without running anything."""

import ast

from . import modules


def written_tests(module, folder):
    """Return [(module, file, class, method)] of every test method in the module's tests folder.

    A class has those, too, of the mixins that it inherits from files of tests folders.
    """
    tests = folder / "tests"
    mixins = _mixins([tests, *(other / "tests" for other in modules.folders().values())])
    return [
        (module, ".".join(path.relative_to(tests).with_suffix("").parts), node.name, method)
        for path in sorted(tests.rglob("test_*.py"))
        for node in _classes_of(path)
        for method in dict.fromkeys([*_methods_of(node), *_inherited(node, mixins)])
    ]


def _mixins(folders):
    """Return the classes of the files that hold no tests of their own, by name."""
    return {
        node.name: node
        for folder in folders
        for path in sorted(folder.glob("*.py"))
        if not path.name.startswith("test_")
        for node in _classes_of(path)
    }


def _inherited(node, mixins):
    for base in node.bases:
        mixin = mixins.get(getattr(base, "id", None))
        if mixin and mixin is not node:
            yield from _methods_of(mixin)
            yield from _inherited(mixin, mixins)


def _classes_of(path):
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return [node for node in body if isinstance(node, ast.ClassDef)]


def _methods_of(node):
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name.startswith("test_"):
            yield item.name


def not_run(written, started):
    """Return the written tests that did not start.

    The methods of a mixin start under the names of the classes that inherit it.
    """
    methods = {(module, name.rpartition(".")[2]) for module, _file, name in started}
    classes = {(module, name.partition(".")[0]) for module, _file, name in started}
    return [
        test
        for test in written
        if (test[0], test[1], f"{test[2]}.{test[3]}") not in started
        and ((test[0], test[2]) in classes or (test[0], test[3]) not in methods)
    ]
