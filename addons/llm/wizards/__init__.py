from . import llm_fetch_models
from . import llm_fetch_models_line
