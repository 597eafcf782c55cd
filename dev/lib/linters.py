"""The linters of the repository, with the configuration at its root."""

import os
import subprocess

from . import house_rules, modules, paths, provider_skeleton, weaknesses

_IGNORED_BY_PRETTIER = ("i18n/", "static/lib/", "static/description/")


def tracked(*suffixes):
    """Return the files of the repository that git knows or would add."""
    return [
        name
        for name in _git("ls-files", "-co", "--exclude-standard") or _all_files()
        if name.endswith(suffixes or "") and (paths.ROOT / name).is_file()
    ]


def generated():
    """Return the files in the repository that git was told to leave out."""
    return set(_git("ls-files", "-oi", "--exclude-standard"))


def _git(*arguments):
    if not (paths.ROOT / ".git").exists():
        return []
    result = subprocess.run(
        ["git", *arguments], cwd=paths.ROOT, capture_output=True, text=True, check=True
    )
    return sorted(set(result.stdout.splitlines()))


def _all_files():
    """Return the files of a tree that is no git checkout."""
    return sorted(str(path.relative_to(paths.ROOT)) for path in paths.ROOT.rglob("*"))


def _environment():
    cache = paths.cache()
    return {
        **os.environ,
        "NODE_PATH": str(cache / "node" / "node_modules"),
        "PYLINTHOME": str(cache / "pylint"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": "",
    }


def _run(*command):
    """Run a linter; return what it says when it is not content, '' otherwise."""
    result = subprocess.run(
        [str(part) for part in command],
        cwd=paths.ROOT,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    output = f"{result.stdout}\n{result.stderr}".strip()
    return (output or f"status {result.returncode}") if result.returncode else ""


def checks():
    """Yield (title, function that returns its complaints)."""
    python = paths.venv_python("lint")
    ruff = (python.parent / "ruff",)
    sources = tracked(".py")
    yield "ruff check", lambda: _run(*ruff, "check", "--no-cache", "--force-exclude", *sources)
    yield (
        "ruff format",
        lambda: _run(*ruff, "format", "--check", "--no-cache", "--force-exclude", *sources),
    )
    yield (
        "pylint-odoo",
        lambda: _run(*(
            python,
            "-m",
            "pylint",
            "--rcfile=pyproject.toml",
            "--disable=manifest-required-author",
            *sources,
        )),
    )
    yield from weaknesses.checks(sources)
    skeleton = {"the skeleton of a provider": provider_skeleton.TEMPLATE}
    for name, folder in (modules.folders() | skeleton).items():
        yield f"oca checks of {name}", lambda folder=folder: _oca(python, folder)
    pretty = [
        name
        for name in tracked(".cjs", ".js", ".scss", ".xml")
        if not name.startswith(_IGNORED_BY_PRETTIER)
    ]
    yield (
        "prettier",
        lambda: _run(
            paths.node_bin("prettier"), "--config=dev/prettier.config.cjs", "--check", *pretty
        ),
    )
    scripts = [name for name in pretty if name.endswith(".js")]
    yield (
        "eslint",
        lambda: (
            scripts and _run(paths.node_bin("eslint"), "--config=dev/eslint.config.cjs", *scripts)
        ),
    )
    yield from house_rules.checks(tracked())


def _oca(python, folder):
    return _run(
        *(python, "-m", "oca_pre_commit_hooks.cli", "--config", "dev/oca_hooks.cfg"),
        os.path.relpath(folder, paths.ROOT),
    )


def run(tally):
    for title, work in checks():
        complaint = work()
        tally.check(not complaint, title, complaint or "")
