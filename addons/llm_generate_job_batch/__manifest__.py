{
    "name": "LLM Generate Job Batches",
    "version": "19.0.1.2.0",
    "category": "Productivity/LLM",
    "summary": "Thousands of generations in one call, some at half the price, and a server action",
    "author": "llm_generate_job contributors",
    "license": "LGPL-3",
    "depends": ["llm_generate_job"],
    "data": [
        "security/ir.model.access.csv",
        "security/llm_generation_security.xml",
        "views/llm_generation_batch_views.xml",
        "views/llm_generation_job_views.xml",
        "views/llm_generation_provider_batch_views.xml",
        "views/llm_generation_queue_views.xml",
        "views/llm_generation_report_views.xml",
        "views/ir_actions_server_views.xml",
        "views/llm_generate_job_batch_menus.xml",
    ],
    "uninstall_hook": "uninstall_hook",
    "assets": {
        "web.assets_tests": ["llm_generate_job_batch/static/tests/tours/**/*"],
    },
}
