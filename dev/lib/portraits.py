"""The pictures of the addon's description page: of what the demo has left, and small in bytes."""

import io

from PIL import Image

from . import paths

FOLDER = paths.ROOT / "static" / "description"
COLORS = 64
DESK = (1440, 810)
PHONE = (390, 720)
#: The queues of the demo fill no more.
WIDE = (1440, 560)


def take(browser, clients, tally):
    """Take each picture as the user who sees it.

    :param dict clients: the clients of take_pictures.py by login
    """
    for name, login, address, size, tab in _pictures(clients):
        client = clients[login]
        browser.take_session(client.url, client.session)
        browser.resize(*size)
        errors = browser.open(client.url + address)
        if tab:
            browser.click(f".nav-link[name={tab}]")
        _save_small(browser.picture(), FOLDER / f"{name}.png")
        tally.check(not errors, f"the description's picture: {name}", "\n".join(errors))


def _pictures(clients):
    """Yield (name, login, address, size, page of a notebook) of each picture."""

    def newest(model, domain, field="id"):
        found = clients["admin"].call(
            model, "search_read", domain, fields=[field], limit=1, order="id desc"
        )
        value = found[0][field] if found else False
        return value[0] if isinstance(value, list) else value

    queue = newest("llm.generation.queue", [])
    job = newest("llm.generation.attempt", [["number", ">", 1]], "job_id")
    thread = newest(
        "llm.generation.job",
        [["user_id.login", "=", "demo"], ["state", "=", "completed"]],
        "thread_id",
    )
    yield "dashboard", "admin", "/odoo/llm-dashboard", WIDE, ""
    yield "jobs", "admin", "/odoo/llm-generation-jobs", DESK, ""
    yield "queue", "admin", f"/odoo/llm-generation-queues/{queue}", DESK, ""
    yield "attempts", "admin", f"/odoo/llm-generation-jobs/{job}", DESK, "attempts"
    yield "conversation", "demo", f"/odoo/llm-threads/{thread}", DESK, ""
    yield "phone", "demo", f"/odoo/llm-threads/{thread}", PHONE, ""


def _save_small(picture, path):
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    image.quantize(COLORS, dither=Image.Dither.NONE).save(path, optimize=True)
