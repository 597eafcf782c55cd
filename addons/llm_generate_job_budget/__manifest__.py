{
    "name": "LLM Generate Job Budgets",
    "version": "19.0.1.0.0",
    "category": "Productivity/LLM",
    "summary": "What users and companies may spend on generation in a day",
    "author": "llm_generate_job contributors",
    "license": "LGPL-3",
    "depends": ["llm_generate_job"],
    "data": [
        "security/ir.model.access.csv",
        "views/llm_generation_job_views.xml",
        "views/res_config_settings_views.xml",
        "views/res_users_views.xml",
        "data/ir_filters_data.xml",
    ],
}
