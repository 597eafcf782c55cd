"""A real browser for one page at a time, driven over its own protocol (venv of Odoo only)."""

import base64
import json
import shutil
import tempfile
import time
import urllib.request
from pathlib import Path

import websocket

from . import environments, processes
from .commands import wait_for
from .say import halt

_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
    "--remote-allow-origins=*",
)
# Odoo has drawn its action and waits for nothing.
_SETTLED = """
    !!document.querySelector('.o_action_manager .o_action, .o_action_manager .o_view_controller')
    && !document.querySelector('.o_loading_indicator, .o_view_sample_data .o_loading')
    && !document.querySelector('.o_blockUI')
"""


class Browser:
    def __init__(self, size=(1366, 900)):
        self.profile = Path(tempfile.mkdtemp())
        self.errors = []
        self.number = 0
        self.process = processes.start(
            [
                environments.chromium(),
                *_OPTIONS,
                f"--user-data-dir={self.profile}",
                f"--window-size={size[0]},{size[1]}",
                "about:blank",
            ],
            self.profile / "log",
        )
        self.socket = websocket.create_connection(self._page(), timeout=30)
        for domain in ("Page", "Runtime", "Network"):
            self.send(f"{domain}.enable")

    def _page(self):
        """Return the address at which the page is driven."""
        told = self.profile / "DevToolsActivePort"
        wait_for(lambda: told.exists() and told.read_text().count("\n"), 30)
        if not told.exists():
            halt(f"Chromium did not start: see {self.profile / 'log'}.")
        port = told.read_text().split()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=10) as answer:
            pages = [page for page in json.load(answer) if page["type"] == "page"]
        return pages[0]["webSocketDebuggerUrl"]

    def send(self, method, **params):
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("id") == self.number:
                return message.get("result", {})
            self._note(message)

    def _note(self, message):
        """Keep what the page complains about."""
        params = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.errors.append(params["exceptionDetails"].get("text", "exception"))
        elif message.get("method") == "Runtime.consoleAPICalled" and params["type"] == "error":
            parts = [str(arg.get("value") or arg.get("description")) for arg in params["args"]]
            self.errors.append(" ".join(parts))

    def evaluate(self, expression):
        return self.send("Runtime.evaluate", expression=expression)["result"].get("value")

    def take_session(self, url, session):
        self.send("Network.clearBrowserCookies")
        self.send("Network.setCookie", name="session_id", value=session, url=url)

    def open(self, url):
        """Open a page of Odoo and wait until it is drawn; return what it complained about."""
        self.errors.clear()
        self.send("Page.navigate", url="about:blank")
        self.send("Page.navigate", url=url)
        if not wait_for(lambda: self.evaluate(_SETTLED), 30, 0.2):
            self.errors.append("the page was not drawn within 30 seconds")
        time.sleep(1.5)  # pictures and charts come in with a movement
        self.evaluate("1")
        return list(self.errors)

    def resize(self, width, height):
        """Show pages in this size; narrow ones as a phone does."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def click(self, selector):
        """Click what a selector finds first, and give the page a moment."""
        self.evaluate(f"document.querySelector({json.dumps(selector)})?.click()")
        time.sleep(0.5)

    def picture(self):
        """Return the page as the bytes of a PNG."""
        picture = self.send("Page.captureScreenshot", format="png")
        return base64.b64decode(picture["data"])

    def save_picture(self, path):
        path.write_bytes(self.picture())

    def close(self):
        self.socket.close()
        self.process.kill()
        shutil.rmtree(self.profile, ignore_errors=True)
