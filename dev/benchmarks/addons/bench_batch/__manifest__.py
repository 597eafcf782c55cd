{
    "name": "Benchmark of LLM Generate Job: Batches",
    "version": "19.0.1.0.0",
    "category": "Hidden",
    "summary": "Thousands of questions in one call",
    "author": "llm_generate_job contributors",
    "license": "LGPL-3",
    "depends": ["bench_llm", "llm_generate_job_batch"],
}
