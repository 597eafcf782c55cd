from . import test_access
from . import test_controller
from . import test_generation
from . import test_history
from . import test_llm_thread
from . import test_markup
from . import test_stream
from . import test_tools
