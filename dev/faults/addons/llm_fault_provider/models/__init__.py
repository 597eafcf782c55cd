from . import anthropic, batch_pace, crash_points, ir_attachment, llm_provider, llm_thread, llm_tool
