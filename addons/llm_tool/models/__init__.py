from . import ir_actions_server
from . import llm_tool
