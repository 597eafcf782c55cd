from . import llm_generation_attempt
from . import llm_generation_tally
from . import llm_generation_metrics
from . import res_config_settings
