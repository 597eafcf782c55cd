"""A client of Odoo as a program elsewhere would be one: a session, RPC and an event stream."""

import http.client
import http.cookiejar
import json
import re
import urllib.error
import urllib.parse
import urllib.request

from .say import HaltError, halt


class RpcError(HaltError):
    """Odoo refused a call; the text is the sentence it gave."""


class Client:
    def __init__(self, url, database, login, password):
        self.url = url
        self.cookies = http.cookiejar.CookieJar()
        # This machine is reached through no proxy.
        self.opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(self.cookies)
        )
        try:
            self._rpc("/web/session/authenticate", db=database, login=login, password=password)
        except RpcError as error:
            halt(
                f"{login} cannot log in ({error}). Run 'make demo' if there was none yet. If the "
                f"password was changed, change it back to '{password}', or start from nothing "
                "with 'make clean'."
            )

    @property
    def session(self):
        """The id of the session, for a browser to take."""
        return next(cookie.value for cookie in self.cookies if cookie.name == "session_id")

    def call(self, model, method, *args, **kwargs):
        path = f"/web/dataset/call_kw/{model}/{method}"
        return self._rpc(path, model=model, method=method, args=args, kwargs=kwargs)

    def action(self, action_id):
        """Return a window action as a menu opens it: only administrators read the records."""
        return self._rpc("/web/action/load", action_id=action_id)

    def events(self, path, **form):
        """Post a form and yield the events that the server sends, as they come."""
        with self._open(f"{self.url}/web/login") as answer:
            token = re.search(r'name="csrf_token" value="([^"]+)"', answer.read().decode())[1]
        data = urllib.parse.urlencode({**form, "csrf_token": token}).encode()
        with self._open(urllib.request.Request(self.url + path, data)) as answer:
            for line in answer:
                if line.startswith(b"data:"):
                    yield json.loads(line[5:])

    def _rpc(self, path, **params):
        body = json.dumps({"jsonrpc": "2.0", "method": "call", "params": params}).encode()
        headers = {"Content-Type": "application/json"}
        with self._open(urllib.request.Request(self.url + path, body, headers)) as answer:
            reply = json.load(answer)
        if "error" in reply:
            data = reply["error"].get("data") or reply["error"]
            raise RpcError(data.get("message") or str(data))
        return reply["result"]

    def _open(self, request):
        try:
            return self.opener.open(request, timeout=120)
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError) as error:
            halt(f"Odoo at {self.url} does not answer ({error}): run 'make stop', then try again.")
