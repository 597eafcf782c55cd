"""What the engine hands to itself by the context, where remote callers write, too."""

#: What JSON is made of. The engine hands over nothing of these types.
PLAIN = (str, int, float, list, tuple, dict, type(None))
#: Says that the engine may use the cursor it runs on: its thread needs it for nothing else.
LENT = object()


def received(env, key, default=None):
    """Return what the engine put into the context, `default` for what came by RPC."""
    value = env.context.get(key)
    return default if isinstance(value, PLAIN) else value
