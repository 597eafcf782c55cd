from . import ir_actions_server
from . import llm_field_answer
from . import llm_generation_batch
from . import llm_generation_job
from . import llm_generation_data
from . import llm_generation_engine
from . import llm_generation_queue
