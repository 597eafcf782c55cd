import importlib
import json
import re
import sys
import unittest

import context  # noqa: F401
from lib import paths

sys.path.insert(0, str(paths.DEV / "benchmarks"))
figures, foretell, model, page, plan, simulation = (
    importlib.import_module(f"capacity.{name}")
    for name in ("figures", "foretell", "model", "page", "plan", "simulation")
)
COSTS = model.costs(model.read())


def small(**values):
    """Return a run of two providers on two servers that PostgreSQL does not hold up."""
    defaults = {
        "providers": (model.Provider("a", 0.5, 7, 2.0, 0.5), model.Provider("b", 0.5, 3, 4.0)),
        "servers": (model.Server(1, 6, "one"), model.Server(1, 6, "two")),
        "hosts": {"postgres": 4, "one": 2, "two": 2},
    }
    return model.Setup(**{**defaults, **values})


def run(setup, seconds=300, seed=1):
    ran = simulation.Simulation(setup, COSTS, seed)
    for second in range(seconds):
        ran.step([(1, 2), (0, 1)] if second < seconds / 2 else [(0, 0), (0, 0)])
        yield ran


class TestSimulation(unittest.TestCase):
    def test_no_job_is_lost_or_made(self):
        troubles = {
            "nothing": {},
            "outage": {"outages": (model.Trouble(0, 20, 60),)},
            "loss": {"losses": (model.Trouble(1, 30, 90),)},
        }
        for name, values in troubles.items():
            with self.subTest(name):
                for ran in run(small(**values)):
                    ended = ran.tally["completed"] + ran.tally["failed"]
                    self.assertEqual(ended + ran.unended, ran.tally["asked"])
                self.assertEqual(ran.tally["asked"], 600)
                self.assertGreater(ran.tally["completed"], 100)

    def test_the_limits_of_providers_and_servers_hold(self):
        for ran in run(small()):
            for line, setup in zip(ran.running, ran.setup.providers, strict=True):
                self.assertLessEqual(line, setup.limit)
            for held in ran.held:
                self.assertLessEqual(sum(held), 6)
        self.assertEqual(ran.most, [7, 3])  # and they are reached

    def test_the_same_seed_gives_the_same_run(self):
        def told(seed):
            *_, ran = run(small(), seed=seed)
            return ran.tally, ran.waits, ran.loads, ran.depths

        self.assertEqual(told(1), told(1))
        self.assertNotEqual(told(1), told(2))

    def test_a_lost_server_keeps_its_slots_until_it_is_missed(self):
        depths = [
            (ran.now, sum(ran.held[1]), ran.tally["rescued"])
            for ran in run(small(losses=(model.Trouble(1, 30, 1000),)))
        ]
        self.assertGreater(depths[29][1], 0)
        self.assertTrue(all(held == 0 for now, held, _n in depths if now > 30))
        self.assertEqual(depths[-1][2], depths[29][1])

    def test_a_short_outage_fails_no_job(self):
        *_, ran = run(small(outages=(model.Trouble(0, 20, 10),)))
        self.assertGreater(ran.tally["refused"], 0)
        self.assertEqual(ran.tally["failed"], 0)

    def test_a_postgresql_without_power_holds_up_everything(self):
        *_, ran = run(small(hosts={"postgres": 0.01, "one": 2, "two": 2}))
        *_, free = run(small())
        self.assertLess(ran.tally["completed"], free.tally["completed"] / 2)
        self.assertGreater(max(ran.loads["postgres"]), 0.9)

    def test_chats_go_before_bulks(self):
        *_, ran = run(small())
        chat, bulk = (simulation.quantile(waits, 0.5) for waits in ran.waits)
        self.assertLess(chat, bulk)

    def test_real_runs_are_foretold(self):
        for name, took, foretold in figures.errors(model.read()):
            with self.subTest(name):
                self.assertLess(abs(foretold / took - 1), foretell.TOLERANCE)


class TestPlan(unittest.TestCase):
    def test_the_day_has_exactly_so_many_jobs(self):
        rows = list(plan.asked(100_000))
        self.assertEqual(len(rows), plan.DAY)
        self.assertEqual(sum(sum(pair) for row in rows for pair in row), 100_000)
        self.assertGreaterEqual(min(min(pair) for row in rows for pair in row), 0)


class TestPage(unittest.TestCase):
    DAY = json.loads(figures.RESULT.read_text(encoding="utf-8"))

    def test_the_kept_day_follows_from_the_kept_costs(self):
        self.assertEqual(self.DAY["fingerprint"], figures.fingerprint(), "run: make scale")

    def test_the_page_has_the_figures(self):
        self.assertEqual(page.parts()[1], page.block(model.read(), self.DAY), "run: make scale")

    def test_what_the_pages_link_to_is_there(self):
        pages = sorted((paths.ROOT / "docs").glob("*.md"))
        self.assertEqual(len(pages), 2)
        for one in pages:
            for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", one.read_text(encoding="utf-8")):
                with self.subTest(page=one.name, link=link):
                    self.assertTrue(link.startswith("https://") or (one.parent / link).exists())
            self.assertIn(f"docs/{one.name}", (paths.ROOT / "README.md").read_text("utf-8"))


if __name__ == "__main__":
    unittest.main()
