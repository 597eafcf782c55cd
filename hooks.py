def post_init_hook(env):
    """Give each provider that is already there its queue."""
    # Here, and not by `_get_or_create_queue()`: other connections do not see the table yet.
    queues = env["llm.generation.queue"]
    providers = env["llm.provider"].with_context(active_test=False).search([])
    missing = providers - queues.search([]).provider_id
    queues.create([{"provider_id": provider.id} for provider in missing])


def uninstall_hook(env):
    """Let LLM open its first menu again."""
    env.ref("llm.menu_llm_root").action = False


def upgrade_sentences(env):
    """Return what `migrations/` writes on records, in the language of the environment.

    They are here because Odoo looks for no translation in a script of `migrations/`.
    """
    return {
        "lost": env._(
            "The module was upgraded while the job ran; whether the provider answered is not"
            " known. Retry it if you need the answer."
        ),
        "held": env._(
            "The queue of the job's model was paused when the module was upgraded. Queue the job"
            " again if you still need the answer."
        ),
        "merged": env._(
            "The queue of the model %s was paused. It is part of this queue now, which can only be"
            " paused as a whole: the jobs that waited for the model are drafts again."
        ),
    }
