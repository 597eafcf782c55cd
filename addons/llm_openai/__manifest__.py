{
    "name": "LLM OpenAI-Compatible Provider",
    "version": "19.0.1.0.0",
    "category": "Productivity",
    "summary": "Chat, embeddings and images from any OpenAI-compatible server",
    "author": "llm_generate_job contributors",
    "license": "LGPL-3",
    "depends": ["llm"],
    "external_dependencies": {"python": ["requests"]},
}
