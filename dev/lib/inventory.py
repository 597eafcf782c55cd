"""The tests that are written, found without running anything."""

import ast


def written_tests(module, folder):
    """Return [(module, file, class, method)] of every test method in the module's tests folder."""
    tests = folder / "tests"
    return [
        (module, ".".join(path.relative_to(tests).with_suffix("").parts), *test)
        for path in sorted(tests.rglob("test_*.py"))
        for test in _tests_of(path)
    ]


def _tests_of(path):
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            for item in node.body:
                if isinstance(item, ast.FunctionDef) and item.name.startswith("test_"):
                    yield node.name, item.name


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
