def uninstall_hook(env):
    """Have providers cancel their batches, as the jobs run by themselves and are paid for there."""
    env["llm.generation.engine"]._cancel_all_batches()
