"""Services of pictures by whichever addons bring them, called over HTTP through the queue.

On the stand-ins that is fal by our own code; with FAMILY it is the family's addons with the
libraries of fal and Replicate, which talk to this machine over TLS and are changed in nothing.
"""

import json
import ssl
import subprocess
import threading
import time
from http.server import ThreadingHTTPServer
from pathlib import Path

from evidence import describe
from fake_provider import Handler
from fault_lab import ADMIN, FaultLab
from lib import family, fault_table
from lib.lab import environment, insist
from lib.processes import wait_for
from lib.say import run_main, step
from lib.tally import Tally
from weather_table import LIVE

MODEL = "acme/painter"
#: A picture that is given, and what the service made of it.
GIVEN, MADE = "data:image/png;base64,iVBORw0KGgo=", "https://127.0.0.1/made.png"
RETRY_AFTER = 4
FAULTS = {
    "e500": (500, "failed", "transient"),
    "e400": (400, "failed", "bad_request"),
    "e401": (401, "queued", "authentication"),
}


class Painter(Handler):
    """What both services say: of fal a queue, of Replicate an answer at once."""

    def do_POST(self):
        body, at_fal = self.body(), not self.path.startswith("/v1/")
        inputs = body if at_fal else body["input"]
        self.server.calls.append(inputs)
        word = inputs["prompt"].split()[0]
        left = self.server.refusals.get(word)
        if left:
            status = left.pop(0)
            detail = f"Refused. Your rate limit resets in ~{RETRY_AFTER}s."
            told = {"status": status, "title": "No", "detail": detail}
            self.answer(status, told, Retry_After=str(RETRY_AFTER))
        elif at_fal:
            number = len(self.server.calls)
            address = f"https://{self.headers['Host']}/{MODEL}/requests/{number}"
            urls = {"response_url": "", "status_url": "/status", "cancel_url": "/cancel"}
            addresses = {name: address + end for name, end in urls.items()}
            self.answer(200, {"status": "IN_QUEUE", "request_id": str(number), **addresses})
        else:
            done = {"id": "p1", "status": "succeeded", "output": [MADE], "input": inputs}
            times = dict.fromkeys(("created_at", "started_at", "completed_at"), "2026-01-01")
            none = dict.fromkeys(("logs", "error", "metrics"))
            more = {"version": "v1", "model": MODEL, "urls": {}}
            self.answer(201, {**done, **times, **none, **more})

    def do_GET(self):
        if "/status" in self.path:
            self.answer(200, {"status": "COMPLETED", "logs": []})
        else:
            self.answer(200, {"images": [{"url": MADE, "content_type": "image/png"}]})


class Service(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, certificate=None):
        super().__init__(("127.0.0.1", 0), Painter)
        self.calls, self.refusals = [], {}
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)
        threading.Thread(target=self.serve_forever, daemon=True).start()


def main():
    tally = Tally()
    with FaultLab("media") as lab:
        files = [lab.folder / name for name in ("certificate.pem", "key.pem")]
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-nodes", "-newkey", "rsa:2048", "-days", "2"),
                *("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"),
                *("-out", files[0], "-keyout", files[1]),
            ],
            check=True,
            capture_output=True,
        )
        services = {"fal_ai": Service(files), "replicate": Service()}
        host = "127.0.0.1:{0.server_port}".format
        env = {
            "FAL_QUEUE_RUN_HOST": host(services["fal_ai"]),
            "REPLICATE_BASE_URL": f"http://{host(services['replicate'])}",
            **dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"), str(files[0])),
        }
        lab.start_servers(threaded=1, env=env)
        with environment(lab, lab.database) as env:
            known = dict(env["llm.provider"]._get_available_services())
        for service, fake in services.items():
            if service in known:
                check_answers(lab, tally, service, fake)
                check_faults(lab, tally, service, fake)
                check_rate_limit(lab, tally, service, fake)
        for service in {"comfyui", "comfy_icu"} & known.keys():
            check_what_cannot_be_called(lab, tally, service)
    return tally.close()


def add_provider(lab, name, service, base):
    with environment(lab, lab.database) as env:
        values = {"name": name, "service": service, "api_key": "canary-key", "api_base": base}
        provider = env["llm.provider"].create(values)
        values = {"provider_id": provider.id, "model_use": "image_generation"}
        env["llm.model"].create({"name": MODEL, **values})
        queue = env["llm.generation.queue"]._get_or_create_queue(provider)
        queue.write({"auto_retry_failed": False})
        return provider.id


def ask(lab, provider, text=None, **inputs):
    """Queue a question, or inputs alone; return the id of the job."""
    thread, _model = lab.add_thread(provider, "A picture")

    def enqueue(env):
        return env["llm.thread"].browse(thread).enqueue_generation(text, inputs=inputs or None).id

    return insist(lab, lab.database, enqueue, ADMIN)


def base_of(service, fake):
    return f"http{'s' * (service == 'fal_ai')}://127.0.0.1:{fake.server_port}"


def check_answers(lab, tally, service, fake):
    """The prompt and the picture arrive, and what was made is in the answer, once."""
    provider = add_provider(lab, service, service, base_of(service, fake))
    asked = [
        ask(lab, provider, "Draw a cat"),
        ask(lab, provider, prompt="Paint it blue", image=GIVEN),
    ]
    tally.check(lab.wait_ended(90, provider), f"{service}: both end")
    jobs = lab.jobs(provider)
    states = [job["state"] for job in jobs]
    tally.check(states == ["completed"] * 2, f"{service}: both are answered", describe(jobs))
    prompts = sorted(call["prompt"] for call in fake.calls)
    tally.check(prompts == ["Draw a cat", "Paint it blue"], f"{service}: prompts", f"{prompts}")
    pictures = [call["image"] for call in fake.calls if "image" in call]
    tally.check(pictures == [GIVEN], f"{service}: the picture is given", f"{pictures}")
    with environment(lab, lab.database, ADMIN) as env:
        for answer in env["llm.generation.job"].browse(asked).output_message_id:
            files = answer.attachment_ids.read(["name", "url", "mimetype"])
            told = json.dumps([answer.body, answer.body_json, files], default=str)
            tally.check(MADE in told, f"{service}: the answer has what was made", told)
            kept = [file["url"] for file in files] == [MADE] or not family.folder()
            tally.check(kept, f"{service}: it is attached", told)
    step(f"{service}: {states}, prompts {prompts}, pictures {len(pictures)}")


def check_faults(lab, tally, service, fake):
    """Refuse a job once each way; what cannot be mended by another try is not tried again."""
    for fault, (status, state, error_type) in FAULTS.items():
        name = f"{service}-{fault}"
        provider = add_provider(lab, name, service, base_of(service, fake))
        fake.refusals[name] = [status] * 9
        ask(lab, provider, prompt=f"{name} please")

        def ended(provider=provider, state=state, error_type=error_type):
            (job,) = lab.jobs(provider)
            return (job["state"], job["error_type"]) == (state, error_type)

        wait_for(ended, 40, 0.2)
        jobs = lab.jobs(provider)
        tally.check(ended(), f"{name}: {state}, {error_type}", describe(jobs))
        calls = sum(call["prompt"].startswith(name) for call in fake.calls)
        tally.check(calls == 1, f"{name}: called once", f"{calls}")
        step(f"{name}: {jobs[0]['state']}, {jobs[0]['error_type']}, {calls} call")


def check_rate_limit(lab, tally, service, fake):
    """A 429 pauses the queue; the library of fal asks again by itself, before anybody is told."""
    name = f"{service}-limited"
    provider = add_provider(lab, name, service, base_of(service, fake))
    fake.refusals[name] = [429]
    since = time.time()
    ask(lab, provider, prompt=f"{name} please")
    paused = f"SELECT 1 FROM llm_generation_queue WHERE provider_id = {provider} AND paused_until"
    is_told = not (service == "fal_ai" and family.folder())
    if is_told:
        is_paused = wait_for(lambda: lab.sql(f"{paused} IS NOT NULL"), 15, 0.05)
        tally.check(is_paused, f"{service}: the queue pauses")
    tally.check(lab.wait_ended(60, provider), f"{service}: the pause ends")
    (job,) = lab.jobs(provider)
    tally.check(
        (job["state"], job["retry_count"]) == ("completed", 0),
        f"{name}: answered, no retry",
        describe([job]),
    )
    calls = sum(call["prompt"].startswith(name) for call in fake.calls)
    tally.check(calls == 2, f"{name}: two calls", f"{calls}")
    step(f"{name}: {job['state']}, retries {job['retry_count']}, the queue was told: {is_told}")
    fault_table.hand_over(
        fault_table.Row(
            script=Path(__file__).stem,
            fault=f"429, by {service}",
            jobs=1,
            lost=int(job["state"] != "completed"),
            duplicated=calls - 2,  # the first of them was refused
            unexplained=calls - 2,
            stuck=int(job["state"] in LIVE),
            recovered=max(0.0, job["ended"] - since - RETRY_AFTER),
        )
    )


def check_what_cannot_be_called(lab, tally, service):
    """An addon whose code no longer fits the family's own ends its job, with the reason."""
    provider = add_provider(lab, service, service, "http://127.0.0.1:9")
    ask(lab, provider, prompt="{}")
    tally.check(lab.wait_ended(40, provider), f"{service}: the job ends")
    (job,) = lab.jobs(provider)
    good = (job["state"], job["retry_count"]) == ("failed", 0) and job["error_message"]
    tally.check(good, f"{service}: failed, and tried once", describe([job]))
    step(f"{service}: {job['state']}, {job['error_type']}: {job['error_message']}")


if __name__ == "__main__":
    run_main(main)
