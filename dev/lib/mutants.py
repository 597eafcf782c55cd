"""Take one guard away at a time, in a copy of the repository, and see which tests tell."""

import os
import queue
import shutil
import time
from collections import defaultdict
from contextlib import contextmanager

from . import (
    fault_scripts,
    linters,
    modules,
    odoo_log,
    odoo_tests,
    paths,
    peer,
    processes,
    seed,
)
from .say import say, step

#: The databases with all modules, and with the bridges to queue_job as well.
STACK, BRIDGE = "stack", "bridge"
#: Seconds; a mutant that waits for ever has turned its tests red.
LIMIT = 300
#: What an upgrade leaves alone is what the mutation may change.
_LET_UPDATE = "UPDATE ir_model_data SET noupdate = false WHERE module = '{}'"


class Tree:
    """A copy of the repository outside of it, and an Odoo that loads our modules from there."""

    def __init__(self, lab, name):
        self.lab, self.name = lab, name
        self.root = lab.folder / name / paths.MODULE
        for file in linters.tracked():
            target = self.root / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(paths.ROOT / file, target)
        self.instance = peer.Instance(lab.cluster, lab.folder / name / "odoo")
        self.instance.data_dir = lab.instance.data_dir  # has the files of the copied database
        ours = [self.root.parent, self.root / "addons"]
        addons = [*self.instance.odoo.addons, *ours, peer.addons()]
        self.instance.set_addons(addons)
        # A compiled file is known by the second and the size of its source: no two are the same.
        self._time = int(time.time())

    def _put(self, file, text):
        path = self.root / file
        path.write_text(text, encoding="utf-8")
        self._time += 10
        os.utime(path, (self._time, self._time))

    @contextmanager
    def breaking(self, mutation):
        """Take the guard away for a while."""
        text = (self.root / mutation.file).read_text(encoding="utf-8")
        broken = mutation.broken(text)
        if mutation.file.endswith(".xml"):  # an upgrade leaves such records alone
            broken = broken.replace(' noupdate="1"', "")
        self._put(mutation.file, broken)
        try:
            yield
        finally:
            self._put(mutation.file, text)

    def test(self, name, wanted, template, *, update=""):
        """Run tests in Odoo on a database of their own, a copy of `template`.

        :return: (the red ones, why it says nothing about the guard or "", the log)
        """
        database = f"mutant_{name}".replace("-", "_")
        self.instance.create_database(database, template=template)
        if update:
            self.lab.cluster.sql(_LET_UPDATE.format(update), database)
        log = self.lab.folder / f"{name}.log"
        tags = sorted({f"/{module}:{test}" for module, test in wanted})
        upgrade = ("-u", update) if update else ()
        status = self.instance.run_tests(database, tags, *upgrade, log=log, seconds=LIMIT)
        self.instance.drop_database(database)
        report = odoo_log.read(log.read_text(errors="replace"), modules.folders())
        started = {(module, test) for module, _file, test in report.started}
        red = sorted({test for _module, _file, test in report.failed})
        missing = sorted(test for module, test in set(wanted) - started)
        if status == -1:
            return red or ["it hung"], "", log
        return red, f"did not run: {', '.join(missing)}" if missing else "", log

    def run_fault_script(self, name, seed_folder):
        """Run a script of dev/faults/ as the copy has it; return (passed, failures, log)."""
        log = self.lab.folder / f"{self.name}.{name}.log"
        env = self.instance.environment
        env["PYTHONPATH"] = env["PYTHONPATH"].replace(str(paths.DEV), str(self.root / "dev"))
        env |= {"LLM_SEED": str(seed_folder), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [paths.venv_python("odoo"), self.root / "dev" / "faults" / f"{name}.py"]
        with log.open("ab") as file:
            processes.run(command, file, env=env, seconds=fault_scripts.LIMIT)
        return (*fault_scripts.result(log), log)

    def remove(self):
        # The scripts of the copy keep what they make in a folder named after where the copy is.
        state = paths.cache() / "state" / paths.short_hash(self.root)
        shutil.rmtree(state, ignore_errors=True)
        shutil.rmtree(self.root.parent, ignore_errors=True)


def run(lab, tally, chosen):
    """Check that the tests of the chosen mutations are green, then that each turns one red."""
    for template in sorted({STACK, *map(_template_of, chosen)}):
        step(f"one database, {template}")
        instance, names = lab.instance, [template]
        if template == BRIDGE:
            instance = peer.Instance(lab.cluster, lab.folder / template)
            instance.data_dir = lab.instance.data_dir
        if template in {STACK, BRIDGE}:
            names = modules.installable(instance)
        instance.create_database(template, names, log=lab.folder / f"{template}.log")
    trees = [Tree(lab, f"tree{number}") for number in range(os.cpu_count())]
    try:
        _break_all(tally, trees, [one for one in chosen if one.tests])
        _run_faults(lab, tally, trees[0], [one for one in chosen if one.faults])
    finally:
        for tree in trees:
            tree.remove()


def _template_of(mutation):
    """Return the database that a mutation is tried on a copy of: all modules, or one alone."""
    on_queue_job = {module for module, _test in mutation.wanted()} & peer.bridges().keys()
    return mutation.alone or (BRIDGE if on_queue_job else STACK)


def _break_all(tally, trees, chosen):
    wanted = defaultdict(set)
    for mutation in chosen:
        wanted[_template_of(mutation)].update(mutation.wanted())
    for template, tests in wanted.items():
        step(f"{len(tests)} tests in Odoo on {template}, nothing broken")
        red, fault, log = trees[0].test(f"unbroken_{template}", tests, template)
        title = f"the tests are green while nothing is broken: {fault} {', '.join(red)}"
        if not tally.check(not (fault or red), title, odoo_tests.tail(log)):
            return
    free = queue.SimpleQueue()
    for tree in trees:
        free.put(tree)

    def work(mutation):
        tree, begin = free.get(), time.monotonic()
        try:
            with tree.breaking(mutation):
                wanted, template = mutation.wanted(), _template_of(mutation)
                outcome = tree.test(mutation.name, wanted, template, update=mutation.update)
        finally:
            free.put(tree)
        _tell(tally, mutation, outcome, begin)

    # What upgrades takes longest: it comes first, so that nobody waits for it in the end.
    ordered = sorted(chosen, key=lambda mutation: not mutation.update)
    processes.run_together(work, ordered, len(trees))


def _tell(tally, mutation, outcome, begin):
    red, fault, log = outcome
    by = ", ".join(red) or "NOTHING"
    say(f"| {mutation.name} | {mutation.guard} | {by} | {time.monotonic() - begin:.0f} s |")
    killed = bool(red) and not fault
    title = f"{mutation.name}: {fault or 'no test tells that the guard is away'}"
    tally.check(killed, title, "" if killed else odoo_tests.tail(log, 15))


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
                passed, failures, _log = tree.run_fault_script(name, folder)
                title = f"{name} is green while nothing is broken: {failures}"
                green[name] = tally.check(passed and not failures, title)
            if green[name]:
                begin = time.monotonic()
                with tree.breaking(mutation):
                    _passed, failures, log = tree.run_fault_script(name, folder)
                red = [f"{name}: {title}" for title in failures]
                _tell(tally, mutation, (red, "", log), begin)
