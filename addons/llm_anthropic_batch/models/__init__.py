from . import llm_provider
