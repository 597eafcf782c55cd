from . import test_contract
from . import test_llm_provider
from . import test_rights_matrix
