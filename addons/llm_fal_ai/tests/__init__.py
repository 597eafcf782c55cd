from . import test_client
from . import test_contract
from . import test_files
from . import test_llm_provider
from . import test_outage
from . import test_results
from . import test_rights_matrix
from . import test_webhook
