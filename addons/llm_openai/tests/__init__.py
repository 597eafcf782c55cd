from . import test_answers
from . import test_client
from . import test_connections
from . import test_llm_provider
from . import test_reading
from . import test_rights_matrix
