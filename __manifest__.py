{
    "name": "LLM Generate Job",
    "version": "19.0.1.0.0",
    "category": "Productivity/LLM",
    "summary": "Queue, limit, retry and watch every LLM generation",
    "author": "llm_generate_job contributors",
    "license": "LGPL-3",
    "depends": ["llm_thread", "llm_tool"],
    "external_dependencies": {"python": ["jsonschema", "requests"]},
    "data": [
        "security/ir.model.access.csv",
        "security/llm_generation_security.xml",
        "data/ir_cron_data.xml",
    ],
    "application": True,
}
