{
    "name": "LLM OpenAI Background Jobs",
    "version": "19.0.1.1.0",
    "category": "Productivity/LLM",
    "summary": "Let OpenAI run generations as jobs of its own",
    "author": "llm_generate_job contributors",
    "license": "LGPL-3",
    "depends": ["llm_generate_job", "llm_openai"],
    "external_dependencies": {"python": ["requests"]},
    "data": ["views/llm_provider_views.xml"],
    "auto_install": True,
}
