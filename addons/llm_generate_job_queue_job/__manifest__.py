{
    "name": "LLM Generate Job on queue_job",
    "version": "19.0.1.1.0",
    "category": "Productivity/LLM",
    "summary": "Run generations on the job runner and the workers of OCA's queue_job",
    "author": "llm_generate_job contributors",
    "license": "LGPL-3",
    "depends": ["llm_generate_job", "queue_job"],
    "data": [
        "data/queue_job_data.xml",
        "views/llm_generation_queue_views.xml",
        "views/res_config_settings_views.xml",
    ],
    "uninstall_hook": "uninstall_hook",
}
