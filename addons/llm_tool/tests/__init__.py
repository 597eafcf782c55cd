from . import test_llm_tool
from . import test_record_tools
from . import test_rights_matrix
from . import test_server_action_tool
