"""Rules of this repository that no linter knows: reasons for sudo(), nothing of one machine."""

import re
import shutil
import subprocess
import sys

from . import paths

#: Where nobody has rights to get around.
_NO_ADDON = re.compile(r"(^|/)(tests|dev)/")
_HOST = re.compile(r"\b[a-z0-9-]+(?:\.[a-z0-9-]+)+\b")
_INDEX = "from pip._internal.models.index import PyPI; print(PyPI.url, PyPI.file_storage_domain)"
# Each of these tells from which servers this machine takes packages: no name is written here.
_ASK = (
    ("apt-get", "indextargets", "--format", "$(SITE)"),
    (sys.executable, "-m", "pip", "config", "list"),
    (sys.executable, "-c", _INDEX),
    ("npm", "config", "get", "registry"),
)


def checks(files):
    texts = {name: _read(paths.ROOT / name) for name in files}
    # The folder of this checkout, unless it says nothing.
    machine = {f"{paths.ROOT.parent}/"} - {"//"}
    yield "no package server is named", lambda: find(texts, registry_hosts())
    yield "each sudo() has its reason beside it", lambda: bare_sudo(texts)
    yield "no path of this machine is named", lambda: find(texts, machine)


def _read(path):
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""  # a picture


def bare_sudo(texts):
    return "\n".join(
        f"{name}:{number}: {line.strip()[:120]}"
        for name, text in texts.items()
        if name.endswith(".py") and not _NO_ADDON.search(name)
        for lines in [text.splitlines()]
        for number, line in enumerate(lines, 1)
        if ".sudo()" in line
        if not any("# sudo: " in near for near in lines[max(0, number - 4) : number])
    )


def registry_hosts():
    """Return the names of the servers that the package clients of this machine use."""
    hosts = set()
    for command in _ASK:
        if shutil.which(command[0]):
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            for address in re.findall(r"https?://[^\s'\"]+|^\S+$", result.stdout, re.MULTILINE):
                hosts.update(_HOST.findall(address.partition("://")[2].partition("/")[0]))
            hosts.update(word for word in result.stdout.split() if _HOST.fullmatch(word))
    return {host for host in hosts if re.search(r"\.[a-z]{2,}$", host)}


def find(texts, words):
    """Return the lines that have one of these words."""
    pattern = re.compile("|".join(rf"(?<![\w.-]){re.escape(word)}" for word in words) or r"(?!)")
    return "\n".join(
        f"{name}:{number}: {line.strip()[:120]}"
        for name, text in texts.items()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    )
