from . import test_llm_generation_job
