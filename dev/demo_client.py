"""A client of Odoo as a program elsewhere would be one: a session, RPC and an event stream."""

import http.client
import http.cookiejar
import json
import re
import urllib.error
import urllib.parse
import urllib.request

from lib.say import HaltError, halt


class RpcError(HaltError):
    """Odoo refused a call; the text is the sentence it gave."""


class Client:
    def __init__(self, url, database, login, password):
        self.url = url
        # This machine is reached through no proxy.
        self.opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()),
        )
        try:
            self._rpc("/web/session/authenticate", db=database, login=login, password=password)
        except RpcError as error:
            halt(
                f"{login} cannot log in ({error}). If the password was changed, change it back "
                f"to '{password}', or start from nothing with 'make clean'."
            )

    def call(self, model, method, *args, **kwargs):
        return self._rpc(
            f"/web/dataset/call_kw/{model}/{method}",
            model=model,
            method=method,
            args=args,
            kwargs=kwargs,
        )

    def events(self, path, **form):
        """Post a form and yield the events that the server sends, as they come."""
        data = urllib.parse.urlencode({**form, "csrf_token": self._csrf_token()}).encode()
        with self._open(urllib.request.Request(self.url + path, data)) as answer:
            for line in answer:
                if line.startswith(b"data:"):
                    yield json.loads(line[5:])

    def _csrf_token(self):
        with self._open(f"{self.url}/web/login") as answer:
            page = answer.read().decode()
        return re.search(r'name="csrf_token" value="([^"]+)"', page)[1]

    def _rpc(self, path, **params):
        body = json.dumps({"jsonrpc": "2.0", "method": "call", "params": params}).encode()
        request = urllib.request.Request(
            self.url + path, body, {"Content-Type": "application/json"}
        )
        with self._open(request) as answer:
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
