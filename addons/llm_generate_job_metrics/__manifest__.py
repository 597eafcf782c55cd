{
    "name": "LLM Generate Job Metrics",
    "version": "19.0.1.0.1",
    "category": "Productivity/LLM",
    "summary": "Metrics of the generation queues, for Prometheus",
    "author": "llm_generate_job contributors",
    "license": "LGPL-3",
    "depends": ["llm_generate_job"],
    "external_dependencies": {"python": ["prometheus-client"]},
    "data": ["security/ir.model.access.csv", "views/res_config_settings_views.xml"],
}
