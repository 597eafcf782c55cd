{
    "name": "Benchmark of Costs of LLM Generate Job",
    "version": "19.0.1.0.0",
    "category": "Hidden",
    "summary": "A provider that posts an answer, at once or as a job of its own",
    "author": "llm_generate_job contributors",
    "license": "LGPL-3",
    "depends": ["bench", "llm_generate_job"],
}
