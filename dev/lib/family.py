"""Real addons of the odoo-llm family instead of the stand-ins in addons/: FAMILY=<their folder>.

Theirs take the place of ours by name; those of addons/ that they do not have stay, as bridges.
"""

import ast
import os
import sys
from pathlib import Path

from . import commands, environments, paths, steps
from .say import halt

#: What is installed beside what our modules need, where the folder has it.
COMPANIONS = (
    *("llm_assistant", "llm_generate", "llm_store", "llm_openai", "llm_mistral", "llm_anthropic"),
    *("llm_ollama", "llm_fal_ai", "llm_replicate", "llm_comfyui", "llm_comfy_icu"),
)
#: The last versions of the packages that the public port runs with.
LIMITS = ("mcp<2", "mistralai<2")


def folder():
    """Return the folder of the family's addons, None where the stand-ins serve."""
    named = os.environ.get("FAMILY")
    if not named:
        return None
    path = Path(named).expanduser().absolute()
    if not (path / "llm_thread" / "__manifest__.py").is_file():
        halt(f"FAMILY is {path} and there is no llm_thread: set it to the family's addons folder.")
    return path


def theirs():
    """Return the family's addons as {module: folder}; it has a job queue of its own, as we do."""
    if not (family := folder()):
        return {}
    found = {path.parent.name: path.parent for path in sorted(family.glob("*/__manifest__.py"))}
    found.pop(paths.MODULE, None)
    return found


def bridges():
    """Return our modules of addons/ that no addon of the family takes the place of."""
    family = theirs()
    ours = sorted((paths.ROOT / "addons").glob("*/__manifest__.py"))
    return {path.parent.name: path.parent for path in ours if path.parent.name not in family}


def addons():
    """Return the folder for the addons path: the family's, and our bridges beside them."""
    place = paths.state() / "family" / paths.short_hash(folder())
    links = theirs() | bridges()
    for name, target in links.items():
        paths.link(place / name, target)
    for link in place.iterdir():
        if link.name not in links:
            link.unlink()
    return place


def manifest(module):
    return ast.literal_eval((module / "__manifest__.py").read_text())


def closure(names):
    """Return those of the family's modules that these need, themselves included."""
    family, found = theirs(), []

    def visit(name):
        if name in family and name not in found:
            for other in manifest(family[name]).get("depends", ()):
                visit(other)
            found.append(name)

    for name in names:
        visit(name)
    return found


def installed():
    """Return the family's modules that are installed beside ours, each after what it needs."""
    return closure(["llm_thread", *COMPANIONS]) if folder() else []


def step():
    """Return the step that installs the Python packages which these modules ask for."""
    family, asked = theirs(), {"packaging"}  # by which Odoo reads a limited package
    for name in installed():
        asked |= set(manifest(family[name]).get("external_dependencies", {}).get("python", ()))
    packages = sorted(asked)

    def build(target):
        # Some are limited, and what Odoo has too stays as it has it.
        constraints = target / "constraints.txt"
        pins = environments.requirements("odoo").read_text()
        constraints.write_text("\n".join([pins, *LIMITS, ""]))
        commands.run(
            [
                *(sys.executable, *environments.PIP, "--no-compile", "--prefer-binary"),
                *("--target", target, "-c", constraints, *packages),
            ],
            "installing the Python packages of the family",
            name="family",
        )

    pins = (*packages, *LIMITS, environments.requirements("odoo").read_text())
    return steps.Step("family", "Python packages of the family", pins, build)
