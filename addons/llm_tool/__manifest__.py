{
    "name": "LLM Tools",
    "version": "19.0.1.0.0",
    "category": "Productivity",
    "summary": "What a language model may do in Odoo, with the rights of the current user",
    "author": "llm_generate_job contributors",
    "license": "LGPL-3",
    "depends": ["llm"],
    "external_dependencies": {"python": ["google-re2", "jsonschema", "referencing"]},
    "data": [
        "security/ir.model.access.csv",
        "data/llm_tool_data.xml",
        "views/llm_tool_views.xml",
        "views/llm_tool_menus.xml",
    ],
}
