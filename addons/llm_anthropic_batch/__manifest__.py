{
    "name": "LLM Anthropic Batches",
    "version": "19.0.1.0.0",
    "category": "Productivity/LLM",
    "summary": "Give Anthropic jobs that can wait many at once, at half the price",
    "author": "llm_generate_job contributors",
    "license": "LGPL-3",
    "depends": ["llm_generate_job_batch"],
}
