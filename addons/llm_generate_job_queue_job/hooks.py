def uninstall_hook(env):
    """Let the jobs wait again that queue_job has not begun; what it has begun ends by itself."""
    env["llm.generation.delegation"]._give_back_unbegun()
