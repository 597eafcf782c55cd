from . import test_client
from . import test_llm_provider
from . import test_rights_matrix
