from . import bench
from . import bench_llm
from . import bench_queue_job
from . import llm_provider
