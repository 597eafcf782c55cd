{
    "name": "LLM Acme Provider",
    "version": "19.0.1.0.0",
    "category": "Productivity/LLM",
    "summary": "Answers from the jobs of Acme",
    "author": "llm_generate_job contributors",
    "license": "LGPL-3",
    "depends": ["llm", "llm_generate_job", "llm_thread"],
    "external_dependencies": {"python": ["requests"]},
}
