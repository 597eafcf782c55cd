from . import test_blame
from . import test_contract
from . import test_foreign_servers
from . import test_llm_provider
from . import test_mistakes
from . import test_odd_answers
from . import test_responses
from . import test_rights_matrix
