"""The texts of this addon that people see: what `make translate` writes and the tests compare."""

import io

import polib

from odoo.tools.translate import trans_export

MODULE = "llm_generate_job"
#: Of what else is in this folder: other modules, and what never speaks to users.
FOREIGN = tuple(f"code:addons/{MODULE}/{folder}/" for folder in ("addons", "dev", "tests"))


def export_template(env):
    """Return the texts that the database and the sources have now, as a `polib.POFile`."""
    buffer = io.BytesIO()
    trans_export(None, [MODULE], buffer, "po", env)
    template = polib.pofile(buffer.getvalue().decode())
    for entry in list(template):
        places = [place for place, _line in entry.occurrences]
        if places and all(place.startswith(FOREIGN) for place in places):
            template.remove(entry)
    return template
