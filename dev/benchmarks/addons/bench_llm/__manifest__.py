{
    "name": "Benchmark of LLM Generate Job",
    "version": "19.0.1.0.0",
    "category": "Hidden",
    "summary": "A provider that answers at once, after a while, or over HTTP",
    "author": "llm_generate_job contributors",
    "license": "LGPL-3",
    "depends": ["bench", "llm_generate_job"],
}
