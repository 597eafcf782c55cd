from . import llm_thread
