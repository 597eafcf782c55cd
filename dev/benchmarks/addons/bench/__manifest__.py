{
    "name": "Benchmark",
    "version": "19.0.1.0.0",
    "category": "Hidden",
    "summary": "What the jobs of a benchmark do, whichever queue runs them",
    "author": "llm_generate_job contributors",
    "license": "LGPL-3",
    "depends": ["llm_openai", "llm_thread"],
}
