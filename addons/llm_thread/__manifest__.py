{
    "name": "LLM Threads",
    "version": "19.0.1.1.0",
    "category": "Productivity",
    "summary": "Conversations with language models, streamed as they are written",
    "author": "llm_generate_job contributors",
    "license": "LGPL-3",
    "depends": ["llm", "llm_tool", "mail", "web", "bus"],
    "external_dependencies": {"python": ["markdown-it-py"]},
    "data": [
        "security/ir.model.access.csv",
        "security/llm_thread_security.xml",
        "views/llm_thread_views.xml",
        "views/llm_thread_menus.xml",
    ],
    "assets": {
        "web.assets_backend": ["llm_thread/static/src/**/*"],
        "web.assets_tests": ["llm_thread/static/tests/tours/**/*"],
    },
}
