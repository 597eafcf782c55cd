from . import bench
from . import llm_provider
