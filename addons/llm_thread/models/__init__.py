from . import llm_thread
from . import mail_message
from . import llm_model
from . import res_users
