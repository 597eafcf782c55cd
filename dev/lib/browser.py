"""A real browser for one page at a time, driven by Playwright; in the Python of Odoo only."""

import sys

from . import environments

STEP = environments.apart("browser", "what drives a browser")
# Odoo has drawn its action and waits for nothing.
_SETTLED = """
    !!document.querySelector('.o_action_manager .o_action, .o_action_manager .o_view_controller')
    && !document.querySelector('.o_loading_indicator, .o_view_sample_data .o_loading')
    && !document.querySelector('.o_blockUI')
"""


class Browser:
    def __init__(self, size=(1366, 900)):
        sys.path.append(str(STEP.folder))
        from playwright import sync_api  # noqa: PLC0415 - there now

        self.errors = []
        self.timeout = sync_api.TimeoutError
        self.driver = sync_api.sync_playwright().start()
        program = environments.chromium()
        chromium = self.driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        context = chromium.new_context(viewport={"width": size[0], "height": size[1]})
        self.page = context.new_page()
        self._watch(self.page)

    def tab(self):
        """Return a page beside the first one, of the same session."""
        page = self.page.context.new_page()
        self._watch(page)
        return page

    def _watch(self, page):
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._note)

    def _note(self, message):
        """Keep what the page complains about."""
        if message.type == "error":
            self.errors.append(message.text)

    def take_session(self, url, session):
        # A page that still asks would get a session of nobody, and put it over ours.
        self.page.goto("about:blank")
        self.page.context.clear_cookies()
        self.page.context.add_cookies([{"name": "session_id", "value": session, "url": url}])

    def open(self, url):
        """Open a page of Odoo and wait until it is drawn; return what it complained about."""
        self.errors.clear()
        self.page.goto("about:blank")
        try:
            self.page.goto(url, wait_until="commit", timeout=60_000)
            self.page.wait_for_function(_SETTLED, timeout=60_000)
        except self.timeout:
            self.errors.append("the page was not drawn within a minute")
        self.page.wait_for_timeout(1500)  # pictures and charts come in with a movement
        return list(self.errors)

    def resize(self, width, height):
        self.page.set_viewport_size({"width": width, "height": height})

    def close(self):
        self.driver.stop()
