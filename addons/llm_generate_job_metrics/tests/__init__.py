from . import test_llm_generation_metrics
from . import test_metrics_controller
from . import test_monitoring_files
from . import test_rights_matrix
