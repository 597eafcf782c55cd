"""The part of docs/scale.md that is written from figures."""

from pathlib import Path

from . import figures, foretell, model

PAGE = Path(__file__).resolve().parents[3] / "docs" / "scale.md"
BEGIN, END = "<!-- begin: make scale -->", "<!-- end: make scale -->"


def block(measured, day):
    """Return the text between the marks."""
    machine = measured["machine"]
    versions = (
        f"PostgreSQL {machine['postgresql'].split()[0]}, Python {machine['python']},"
        f" Odoo {machine['odoo']}"
    )
    lines = [
        f"Measured on {machine['date']} by `make costs`: {machine['cores']} cores, {versions}.",
        "",
        "| what | figure |",
        "| --- | --- |",
        *(f"| {what} | {figure} |" for what, figure in figures.table(measured, day)),
        "",
        f"| run of real servers | measured | foretold (within {foretell.TOLERANCE:.0%}) |",
        "| --- | --- | --- |",
        *(
            f"| {_shape(measured['runs'][name])} | {took:.1f} s | {foretold:.1f} s |"
            for name, took, foretold in figures.errors(measured)
        ),
    ]
    return "\n".join(lines)


def _shape(run):
    limits = " and ".join(map(str, run["limits"]))
    return f"{run['jobs']:,} jobs of {run['seconds']} s, limits {limits}, {run['servers']} servers"


def parts():
    """Return the page before the block, the block, and the page after it."""
    before, _mark, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    inside, _mark, after = rest.partition(END)
    return before, inside.strip(), after


def write(day):
    before, _old, after = parts()
    text = block(model.read(), day)
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")
