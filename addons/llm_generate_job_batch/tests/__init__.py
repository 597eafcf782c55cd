from . import test_companies
from . import test_concurrency
from . import test_economy
from . import test_ir_actions_server
from . import test_llm_generation_batch
from . import test_readme
from . import test_rights_matrix
from . import test_tours
