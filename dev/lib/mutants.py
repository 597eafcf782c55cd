"""Take one guard away at a time, in a copy of the repository, and see which tests tell."""

import os
import queue
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from . import (
    fault_scripts,
    linters,
    modules,
    mutations,
    odoo_log,
    odoo_server,
    odoo_tests,
    paths,
    processes,
    seed,
)
from .say import say, step

STACK = "stack"
#: Seconds; a mutant that waits for ever has turned its tests red.
LIMIT = 300
#: What an upgrade leaves alone is what the mutation may change.
_LET_UPDATE = "UPDATE ir_model_data SET noupdate = false WHERE module = '{}'"


@dataclass
class Outcome:
    """What a run of tests came to; `fault` is why it says nothing about the guard."""

    red: list
    started: set
    fault: str = ""
    log: Path | None = None


class Tree:
    """A copy of the repository outside of it, and an Odoo that loads our modules from there."""

    def __init__(self, lab, name):
        self.lab = lab
        self.root = lab.folder / name / paths.MODULE
        for file in linters.tracked():
            target = self.root / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(paths.ROOT / file, target)
        self.instance = _Instance(lab, self.root)
        # A compiled file is known by the second and the size of its source: no two are the same.
        self._time = int(time.time())

    def put(self, file, text):
        path = self.root / file
        path.write_text(text, encoding="utf-8")
        self._time += 10
        os.utime(path, (self._time, self._time))

    def breaking(self, mutation):
        """Return a context in which the guard is away."""
        return _Broken(self, mutation)

    def test(self, name, wanted, *, update=""):
        """Run tests in Odoo on a database of their own."""
        database = f"mutant_{name}".replace("-", "_")
        self.instance.create_database(database, template=STACK)
        if update:
            self.lab.cluster.sql(_LET_UPDATE.format(update), database)
        log = self.lab.folder / f"{name}.log"
        with log.open("ab") as file:
            status = processes.run(
                self.instance.command(
                    *("-d", database, "--test-tags", _tags(wanted)),
                    *(f"--http-port={processes.free_port()}", "--log-level=info"),
                    *(f"--gevent-port={processes.free_port()}", "--max-cron-threads=0"),
                    *(("-u", update) if update else ()),
                    "--stop-after-init",
                ),
                file,
                env=self.instance.environment,
                seconds=LIMIT,
                ledger=self.lab.ledger,
            )
        self.instance.drop_database(database)
        return _outcome(log, status, wanted)

    def run_fault_script(self, name, seed_folder):
        """Run a script of dev/faults/ as the copy has it."""
        log = self.lab.folder / f"{self.root.parent.name}.{name}.log"
        environment = self.instance.environment
        path = environment["PYTHONPATH"].replace(str(paths.DEV), str(self.root / "dev"))
        env = {
            **environment,
            "LLM_SEED": str(seed_folder),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": path,
        }
        script = self.root / "dev" / "faults" / f"{name}.py"
        with log.open("ab") as file:
            processes.run(
                [paths.venv_python("odoo"), script],
                file,
                env=env,
                seconds=fault_scripts.LIMIT,
                ledger=self.lab.ledger,
            )
        return fault_scripts.result(log)

    def remove(self):
        # The scripts of the copy keep what they make in a folder named after where the copy is.
        state = paths.cache() / "state" / paths.short_hash(self.root)
        shutil.rmtree(state, ignore_errors=True)
        shutil.rmtree(self.root.parent, ignore_errors=True)


class _Instance(odoo_server.Instance):
    def __init__(self, lab, root):
        super().__init__(lab.cluster, lab.folder / root.parent.name / "odoo", ledger=lab.ledger)
        self.data_dir = lab.instance.data_dir  # has the files of the database that is copied
        self.addons_path = [*self.odoo.addons, root.parent, root / "addons"]
        self._write_conf()


class _Broken:
    def __init__(self, tree, mutation):
        self.tree, self.mutation = tree, mutation
        self.text = (tree.root / mutation.file).read_text(encoding="utf-8")

    def __enter__(self):
        broken = self.mutation.broken(self.text)
        if self.mutation.file.endswith(".xml"):  # an upgrade leaves such records alone
            broken = broken.replace(' noupdate="1"', "")
        self.tree.put(self.mutation.file, broken)

    def __exit__(self, *_exc):
        self.tree.put(self.mutation.file, self.text)


def _tags(wanted):
    return ",".join(sorted({f"/{module}:{name}" for module, name in wanted}))


def _outcome(log, status, wanted):
    report = odoo_log.read(log.read_text(errors="replace"), modules.folders())
    started = {(module, name) for module, _file, name in report.started}
    red = sorted({name for _module, _file, name in report.failed})
    if status == -1:
        red = red or ["it hung"]
    elif missing := sorted(name for module, name in set(wanted) - started):
        return Outcome(red, started, f"did not run: {', '.join(missing)}", log)
    return Outcome(red, started, log=log)


def run(lab, tally, chosen):
    """Check that the tests of the chosen mutations are green, then that each turns one red."""
    step("one database with all modules")
    log = lab.folder / "stack.log"
    lab.instance.create_database(STACK, modules.installable(lab.instance), log=log)
    trees = [Tree(lab, f"tree{number}") for number in range(os.cpu_count())]
    try:
        if _are_green(tally, trees[0], [one for one in chosen if one.tests]):
            _break_all(tally, trees, [one for one in chosen if one.tests])
        _run_faults(lab, tally, trees[0], [one for one in chosen if one.faults])
    finally:
        for tree in trees:
            tree.remove()


def _are_green(tally, tree, chosen):
    wanted = [test for mutation in chosen for test in mutation.wanted()]
    if not wanted:
        return False
    step(f"{len(set(wanted))} tests in Odoo, nothing broken")
    outcome = tree.test("unbroken", wanted)
    return tally.check(
        not (outcome.fault or outcome.red),
        f"the tests are green while nothing is broken: {outcome.fault} {', '.join(outcome.red)}",
        odoo_tests.tail(outcome.log),
    )


def _break_all(tally, trees, chosen):
    free = queue.SimpleQueue()
    for tree in trees:
        free.put(tree)

    def work(mutation):
        tree, begin = free.get(), time.monotonic()
        try:
            with tree.breaking(mutation):
                outcome = tree.test(mutation.name, mutation.wanted(), update=mutation.update)
        finally:
            free.put(tree)
        _tell(tally, mutation, outcome, time.monotonic() - begin)

    # What upgrades takes longest: it comes first, so that nobody waits for it in the end.
    ordered = sorted(chosen, key=lambda mutation: not mutation.update)
    with ThreadPoolExecutor(len(trees)) as pool:
        list(pool.map(work, ordered))


def _tell(tally, mutation, outcome, seconds):
    killed = bool(outcome.red) and not outcome.fault
    by = ", ".join(outcome.red) or "NOTHING"
    say(f"| {mutation.name} | {mutation.guard} | {by} | {seconds:.0f} s |")
    title = f"{mutation.name}: {outcome.fault or 'no test tells that the guard is away'}"
    tally.check(killed, title, "" if killed else odoo_tests.tail(outcome.log, 15))


def _run_faults(lab, tally, tree, chosen):
    if not chosen:
        return
    lab.cluster.stop()
    folder = lab.folder / "seed"
    folder.mkdir()
    seed.save(lab.cluster, lab.instance, folder)
    green = {}
    for mutation in chosen:
        for name in mutation.faults:
            if name not in green:
                step(f"{name}, nothing broken")
                passed, failures = tree.run_fault_script(name, folder)
                title = f"{name} is green while nothing is broken: {failures}"
                green[name] = tally.check(passed and not failures, title)
            if green[name]:
                _break_fault(tally, tree, mutation, name, folder)


def _break_fault(tally, tree, mutation, name, folder):
    begin = time.monotonic()
    with tree.breaking(mutation):
        _passed, failures = tree.run_fault_script(name, folder)
    outcome = Outcome([f"{name}: {title}" for title in failures], set())
    outcome.log = tree.lab.folder / f"{tree.root.parent.name}.{name}.log"
    _tell(tally, mutation, outcome, time.monotonic() - begin)


def choose(names):
    """Return the mutations of these names, all without."""
    every = mutations.read()
    return [one for one in every if one.name in names] if names else every
