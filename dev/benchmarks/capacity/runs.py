"""Short runs of real servers that the simulation has to foretell."""

import time

from lib.say import step

from .phases import Place, per_job

#: name: jobs, limits of the providers, seconds of a call. A machine of many cores is held up by the
#: limits in the first run; the second is held up by the processors of any.
RUNS = {
    "slots": {"jobs": 2000, "limits": [30, 20], "seconds": 0.2},
    "processors": {"jobs": 4000, "limits": [40, 40], "seconds": 0.0},
}


def run(lab, database, servers):
    """Return what the runs took, with what was free of the machine meanwhile."""
    place = Place(lab, database, servers)
    found = {}
    for name, shape in RUNS.items():
        step(f"a run of {shape['jobs']} jobs, limits {shape['limits']}, {shape['seconds']} s each")
        found[name] = {**shape, "servers": len(servers), **_run(place, shape)}
    return found


def _run(place, shape):
    providers = [place.call("scale_prepare", f"run {limit}") for limit in shape["limits"]]
    share = shape["jobs"] // len(providers)
    for provider in providers:
        place.call("scale_ask_batch", provider, share, {"seconds": shape["seconds"]})
    for server in place.servers:
        server.call("bench", "scale_start_runner")
    time.sleep(1.0)
    with place.meter.spent(place.servers) as spent:
        for provider, limit in zip(providers, shape["limits"], strict=True):
            place.call("scale_open", provider, limit)
        place.wait()
    return {f"measured_{name}": value for name, value in per_job(spent, shape["jobs"]).items()
            if name in {"seconds", "postgres_ms", "odoo_ms", "other_cores"}}  # fmt: skip
