from . import llm_generation_prioritise
