"""Simulate the short runs that were measured: the difference is the error of the simulation."""

from . import model
from .simulation import Simulation

#: By how much of what was measured the simulation may be wrong.
TOLERANCE = 0.2
TICK = 0.02


def seconds(measured, name):
    """Return the seconds that the simulation foretells for a run of real servers."""
    run = measured["runs"][name]
    cores = measured["machine"]["cores"] - run["measured_other_cores"]
    limits = run["limits"]
    setup = model.Setup(
        providers=tuple(
            model.Provider(f"run {place}", 1 / len(limits), limit, run["seconds"])
            for place, limit in enumerate(limits)
        ),
        servers=tuple(model.Server(1, 64, "machine") for _n in range(run["servers"])),
        hosts={"machine": cores},
        tick=TICK,
        postgres="machine",
    )
    simulation = Simulation(setup, model.costs(measured))
    share = run["jobs"] // len(limits)
    for line in simulation.lines:
        line.add(1, 0, share)  # they wait before the run begins
    while simulation.unended:
        simulation.step(())
    return simulation.now * TICK
