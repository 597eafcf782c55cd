"""How what is tried at random is tried: the same in each run, and nothing is left behind."""

from pathlib import Path

from hypothesis import HealthCheck, configuration, settings

from odoo.tools import config

# It keeps what it reads of our code, by default in the folder where the server was started.
configuration.set_hypothesis_home_dir(Path(config["data_dir"]) / "hypothesis")

SETTINGS = settings(
    database=None, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck)
)
