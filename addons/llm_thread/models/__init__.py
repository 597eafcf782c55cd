from . import llm_thread
from . import mail_message
