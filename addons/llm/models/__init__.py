from . import llm_onchange_guard
from . import llm_publisher
from . import llm_provider
from . import llm_model
from . import mail_message
from . import mail_thread
