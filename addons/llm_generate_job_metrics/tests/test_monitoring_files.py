import json
import re

import yaml

from odoo.tests import TransactionCase, tagged
from odoo.tools import file_open

from .common import read_metrics

METRIC_RE = re.compile(r"\bllm_generation_\w+")
FOLDER = "llm_generate_job_metrics/static/monitoring"


@tagged("post_install", "-at_install")
class TestMonitoringFiles(TransactionCase):
    """What the dashboard and the rules ask for is there."""

    def _exposed(self):
        text = self.env["llm.generation.metrics"]._expose().decode()
        read_metrics(text)
        names = set(re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE))
        return names | {f"{name}{end}" for name in names for end in ("_bucket", "_sum", "_count")}

    def _assert_exposed(self, expressions):
        for expression in expressions:
            asked = set(METRIC_RE.findall(expression))
            self.assertTrue(asked, expression)
            self.assertFalse(asked - self._exposed(), expression)
            for pair in ("()", "{}", "[]"):
                self.assertEqual(expression.count(pair[0]), expression.count(pair[1]), expression)

    def test_the_dashboard_asks_for_what_there_is(self):
        with file_open(f"{FOLDER}/grafana_dashboard.json") as file:
            dashboard = json.load(file)
        panels = dashboard["panels"]
        self.assertEqual(len({panel["id"] for panel in panels}), len(panels))
        self._assert_exposed(target["expr"] for panel in panels for target in panel["targets"])
        self._assert_exposed(
            variable["definition"]
            for variable in dashboard["templating"]["list"]
            if variable["type"] == "query"
        )
        places = [panel["gridPos"] for panel in panels]
        self.assertTrue(all(place["x"] + place["w"] <= 24 for place in places))

    def test_the_rules_ask_for_what_there_is(self):
        with file_open(f"{FOLDER}/alert_rules.yml") as file:
            groups = yaml.safe_load(file)["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        self.assertEqual(len({rule["alert"] for rule in rules}), 3)
        self._assert_exposed(rule["expr"] for rule in rules)
        for rule in rules:
            self.assertIn(rule["labels"]["severity"], {"critical", "warning"})
            self.assertTrue(rule["annotations"]["summary"] and rule["annotations"]["description"])
