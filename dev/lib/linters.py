"""The linters of the repository, with their configuration in pyproject.toml and dev/."""

import os
import subprocess

from . import house, house_rules, modules, paths, provider_skeleton, weaknesses

_IGNORED_BY_PRETTIER = ("i18n/", "static/lib/", "static/description/")


def tracked(*suffixes):
    """Return the files of the repository that git knows or would add."""
    names = _git("ls-files", "-co", "--exclude-standard") or [
        str(path.relative_to(paths.ROOT)) for path in sorted(paths.ROOT.rglob("*"))
    ]
    return [n for n in names if n.endswith(suffixes or "") and (paths.ROOT / n).is_file()]


def generated():
    """Return the files in the repository that git was told to leave out."""
    return set(_git("ls-files", "-oi", "--exclude-standard"))


def _git(*arguments):
    """Return what git lists, nothing in a tree that is no checkout."""
    if not (paths.ROOT / ".git").exists():
        return []
    result = subprocess.run(
        ["git", *arguments], cwd=paths.ROOT, capture_output=True, text=True, check=True
    )
    return sorted(set(result.stdout.splitlines()))


def _run(*command):
    """Run a linter; return what it says when it is not content, '' otherwise."""
    cache = paths.cache()
    result = subprocess.run(
        [str(part) for part in command],
        cwd=paths.ROOT,
        env={
            **os.environ,
            "NODE_PATH": str(cache / "node" / "node_modules"),
            "PYLINTHOME": str(cache / "pylint"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": "",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    output = f"{result.stdout}\n{result.stderr}".strip()
    return (output or f"status {result.returncode}") if result.returncode else ""


def checks():
    """Yield (title, function that returns its complaints)."""
    python, sources = paths.venv_python("lint"), tracked(".py")
    for title, arguments in (("check", ()), ("format", ("--check",))):
        command = (python.parent / "ruff", title, *arguments, "--no-cache", "--force-exclude")
        yield f"ruff {title}", lambda command=command: _run(*command, *sources)
    pylint = ("-m", "pylint", "--rcfile=pyproject.toml", "--disable=manifest-required-author")
    yield "pylint-odoo", lambda: _run(python, *pylint, *sources)
    yield "known vulnerabilities of what is pinned", weaknesses.complaints
    oca = (python, "-m", "oca_pre_commit_hooks.cli", "--config", "dev/oca_hooks.cfg")
    skeleton = {"the skeleton of a provider": provider_skeleton.TEMPLATE}
    for name, folder in (modules.folders() | skeleton).items():
        place = os.path.relpath(folder, paths.ROOT)
        yield f"oca checks of {name}", lambda place=place: _run(*oca, place)
    named = [part for addon in modules.folders().items() for part in addon]
    yield "translations", lambda: _run(python, "tests/po_files.py", *named)
    pretty = [
        name
        for name in tracked(".cjs", ".js", ".scss", ".xml")
        if not name.startswith(_IGNORED_BY_PRETTIER)
    ]
    scripts = [name for name in pretty if name.endswith(".js")]
    prettier = (paths.node_bin("prettier"), "--config=dev/prettier.config.cjs", "--check")
    yield "prettier", lambda: _run(*prettier, *pretty)
    eslint = (paths.node_bin("eslint"), "--config=dev/eslint.config.cjs")
    yield "eslint", lambda: _run(*eslint, *scripts)
    yield from house_rules.checks(tracked())
    yield "the house is within its bars", house.complaints


def run(tally):
    for title, work in checks():
        complaint = work()
        tally.check(not complaint, title, complaint or "")
