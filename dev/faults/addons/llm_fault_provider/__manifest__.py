{
    "name": "LLM Fault Provider",
    "version": "19.0.1.0.0",
    "category": "Hidden",
    "summary": "Talks to the provider that the fault scripts break",
    "author": "llm_generate_job contributors",
    "license": "LGPL-3",
    "depends": ["llm_generate_job"],
    "external_dependencies": {"python": ["requests"]},
}
