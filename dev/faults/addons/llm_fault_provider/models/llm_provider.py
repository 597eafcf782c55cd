import asyncio
import json
import os
import time
from pathlib import Path

import requests

from odoo import api, models
from odoo.tools import html2plaintext

from odoo.addons.llm_generate_job.protocol.bounded_http import TimeoutAdapter

from ..crash_points import crash, is_armed

#: Seconds to connect, and between two bytes.
TIMEOUT = (5, 120)
IN_CALL = "in the call"
#: What ends a thread that does not expect it.
ENDS = {end.__name__: end for end in (asyncio.CancelledError, SystemExit, KeyboardInterrupt)}
BROKEN_OFF = "The answer broke off."


class LlmProvider(models.Model):
    """Two services of one fake server: `fault` runs jobs, `faultchat` only streams chats.

    A third, `faultbook`, is no server: it takes its time, and keeps book of who called.
    """

    _inherit = "llm.provider"  # pylint: disable=consider-merging-classes-inherited

    @api.model
    def _get_available_services(self):
        return [
            *super()._get_available_services(),
            ("fault", "Fault: Jobs"),
            ("faultchat", "Fault: Chat"),
            ("faultbook", "Fault: Book"),
        ]

    def _fault_request(self, method, path, **options):
        headers = {"Authorization": f"Bearer {self.sudo().api_key}"}
        url = f"{self.api_base}/{path}"
        crashes = is_armed(IN_CALL, self.name, polling=method == "GET") and "stream" not in options
        if crashes:  # when the provider has answered, and the answer is not read
            options["stream"] = True
        # What it calls deaf has a client that nobody can hang up on, as some libraries have.
        session = requests.Session()
        if not self.name.startswith("deaf"):
            session.mount("http://", TimeoutAdapter(TIMEOUT))
        response = session.request(method, url, headers=headers, timeout=TIMEOUT, **options)
        if crashes:
            crash(IN_CALL, self.name, polling=method == "GET")
        response.raise_for_status()
        return response

    # === JOBS === #

    def fault_create_generation_job(self, job):
        body = {"key": job.generation_inputs["prompt"]}
        answer = self._fault_request("POST", "jobs", json=body).json()
        return answer["id"] if "id" in answer else self._fault_result(job, answer)

    def fault_check_generation_job_status(self, job):
        answer = self._fault_request("GET", f"jobs/{job.external_job_id}").json()
        return self._fault_result(job, answer)

    def fault_cancel_generation_job(self, job):
        answer = self._fault_request("DELETE", f"jobs/{job.external_job_id}").json()
        return answer["cancelled"]

    def _fault_result(self, job, answer):
        if answer["state"] != "completed":
            return {"state": answer["state"]}
        message = job.thread_id.message_post(
            body=answer["text"],
            llm_role="assistant",
            author_id=False,
            attachments=[("answer.txt", f"{answer['text']} in {self.name}".encode())]
            if answer["text"].startswith("Answer to file")
            else [],
        )
        return {"state": "completed", "output_message_id": message.id}

    # === BOOK === #

    def faultbook_create_generation_job(self, job):
        """Take `seconds` of the inputs, and note begin and end in the file that `api_base` names.

        A line is `key process begin end`; lines of so few bytes do not mix.
        """
        inputs, begin = job.generation_inputs, time.time()
        if name := inputs.get("raises"):
            raise ENDS[name]
        time.sleep(inputs["seconds"])
        with Path(self.api_base).open("a", encoding="ascii") as book:
            book.write(f"{inputs['key']} {os.getpid()} {begin:.6f} {time.time():.6f}\n")
        return {"state": "completed"}

    # === CHAT === #

    def faultchat_chat_inputs(self):
        return {"touches"}  # the service is not told of it: `_on_generation_job_done()` reads it

    # The family asks each service for these.

    def faultchat_normalize_prepend_messages(self, messages):
        return messages or []

    def faultchat_format_messages(self, messages, **_how):
        return [
            {"role": one.llm_role, "content": html2plaintext(one.body or "")} for one in messages
        ]

    def faultchat_chat(
        self, messages, model=None, stream=False, tools=None, prepend_messages=None, **kwargs
    ):
        body = {
            "model": model.name,
            "stream": True,
            "messages": [*(prepend_messages or ()), *self.format_messages(messages, model=model)],
        }
        return self._fault_stream(body)

    def _fault_stream(self, body):
        response = self._fault_request("POST", "v1/chat/completions", json=body, stream=True)
        on_response = self.env.context.get("llm_on_response")
        if on_response and not self.name.startswith("deaf"):
            on_response(response)
        with response:
            for line in response.iter_lines(chunk_size=1):
                data = line.removeprefix(b"data: ")
                if data == b"[DONE]":
                    return
                if data:
                    yield json.loads(data)["choices"][0]["delta"]
                    crash(IN_CALL, self.name)
        raise requests.exceptions.ChunkedEncodingError(BROKEN_OFF)
