from . import llm_tool
