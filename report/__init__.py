from . import llm_generation_report
