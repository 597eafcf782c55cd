from . import llm_generation_prioritize
