{
    "name": "Benchmark of queue_job",
    "version": "19.0.1.0.0",
    "category": "Hidden",
    "summary": "The same work, delayed by OCA's queue_job",
    "author": "llm_generate_job contributors",
    "license": "LGPL-3",
    "depends": ["bench", "queue_job"],
}
