def post_init_hook(env):
    """Give each provider that is already there its queue."""
    # Here, and not by `_get_or_create_queue()`: other connections do not see the table yet.
    queues = env["llm.generation.queue"]
    providers = env["llm.provider"].with_context(active_test=False).search([])
    missing = providers - queues.search([]).provider_id
    queues.create([{"provider_id": provider.id} for provider in missing])
