from . import llm_generation_spending
from . import llm_generation_engine
from . import llm_generation_job
from . import llm_provider
from . import res_company
from . import res_config_settings
from . import res_users
