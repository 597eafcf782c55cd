def post_init_hook(env):
    """Give each provider that is already there its queue."""
    for provider in env["llm.provider"].with_context(active_test=False).search([]):
        env["llm.generation.queue"]._get_or_create_queue(provider)
