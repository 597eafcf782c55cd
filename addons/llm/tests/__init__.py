from . import test_companies
from . import test_llm_fetch_models
from . import test_llm_model
from . import test_llm_provider
from . import test_mail_message
from . import test_openai_format
from . import test_rights_matrix
