from . import test_companies
from . import test_concurrency
from . import test_event_stream
from . import test_llm_generation_budget
from . import test_llm_generation_budget_limits
from . import test_llm_generation_budget_ways
from . import test_rights_matrix
from . import test_translations
