from . import llm_generation_attempt
from . import llm_generation_delegation
from . import llm_generation_engine
from . import llm_generation_job
from . import llm_generation_queue
from . import queue_job
from . import res_config_settings
