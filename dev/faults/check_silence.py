"""A server is cut off from its database without a word: its jobs run elsewhere, none twice at once.

Between the server and PostgreSQL is a proxy that stops to pass anything on, in both directions, and
ends no connection. Its calls to the provider go on: the limit has to hold for them, too.
"""

import socket
import threading
import time

from evidence import check_completed, describe, log_tails
from fault_lab import FaultLab
from lib import processes
from lib.postgres import PORT
from lib.processes import wait_for
from lib.say import run_main, step
from lib.tally import Tally
from weather_table import report

LIMIT = 6
#: Seconds in which the jobs of who is gone run elsewhere.
ELSEWHERE = 120


def main():
    tally = Tally()
    with FaultLab("silence") as lab:
        proxy = Proxy(lab.cluster.socket / f".s.PGSQL.{PORT}")
        args = ("--db_host=127.0.0.1", f"--db_port={proxy.port}")
        [lost] = lab.start_servers(threaded=1, args=args)
        lab.start_runners([lost])
        provider = lab.add_provider("calls", "fault", max_concurrent_jobs=LIMIT)
        lab.fake.order(group="calls", delay=400)
        lab.add_jobs(provider, (f"call {one}" for one in range(LIMIT)))
        wait_for(lambda: len(lab.fake.calls("calls")) == LIMIT, 20, 0.1)
        lab.start_servers(threaded=1)
        lab.fake.order(group="calls", delay=3)
        lab.add_jobs(provider, (f"behind {one}" for one in range(LIMIT)))
        proxy.silence()
        begin = time.time()
        lab.pump()
        elsewhere = wait_for(lambda: len(lab.fake.calls("calls")) >= 2 * LIMIT, ELSEWHERE, 0.2)
        took = time.time() - begin
        step(f"they run elsewhere after {took:.0f} s")
        tally.check(elsewhere, f"its jobs run elsewhere within {ELSEWHERE} s", f"{took:.0f} s")
        ended = lab.wait_ended(60, provider)
        tally.check(ended, "all end though one server is silent", log_tails(lab.servers))
        hung_up = [one for one in lab.fake.calls("calls") if one["outcome"] == "hung up"]
        tally.check(
            len(hung_up) == LIMIT and all(one["until"] - begin < took for one in hung_up),
            "its calls were stopped before",
            str(hung_up),
        )
        proxy.speak()
        time.sleep(20)  # for what it may do with what it held
        fault = "a server cut off from its database"
        report(lab, tally, fault, {"calls": provider}, since=begin, explained={"worker_died"})
        jobs = lab.jobs(provider)
        check_completed(lab, tally, jobs)
        most = lab.fake.most("calls")
        tally.check(most <= LIMIT, f"at most {LIMIT} calls at once over all", f"it was {most}")
        twice = [
            job for job in jobs if job["key"].startswith("behind") and len(job["attempts"]) > 1
        ]
        tally.check(not twice, "what was not out is not paid twice", describe(twice))
        lab.servers[1].stop()
        lab.add_jobs(provider, (f"healed {one}" for one in range(LIMIT)))
        healed = lab.wait_ended(60, provider)
        tally.check(healed, "after it heals the server works again", log_tails(lab.servers))
        check_completed(lab, tally, lab.jobs(provider), "all of them are completed")
    return tally.close()


class Proxy:
    """Passes bytes on between a port and the socket of PostgreSQL, until it falls silent."""

    def __init__(self, path):
        self.path = str(path)
        self.port = processes.free_port()
        self._speaks = threading.Event()
        self._speaks.set()
        self._server = socket.create_server(("127.0.0.1", self.port), backlog=64)
        threading.Thread(target=self._accept, daemon=True).start()

    def silence(self):
        self._speaks.clear()

    def speak(self):
        self._speaks.set()

    def _accept(self):
        while True:
            client, _address = self._server.accept()
            self._speaks.wait()
            server = socket.socket(socket.AF_UNIX)
            server.connect(self.path)
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _pass_on(self, source, target):
        try:
            while data := source.recv(65536):
                self._speaks.wait()
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            source.close()
            target.close()


if __name__ == "__main__":
    run_main(main)
