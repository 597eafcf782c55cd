"""Which messages of a thread a model gets, and in which order."""

#: messages of the past given to the model
HISTORY_LIMIT = 50


def data_of(message):
    """Return `body_json` where it is a dict: other addons may keep anything there."""
    return message.body_json if isinstance(message.body_json, dict) else {}


def order_history(messages, last_message=None):
    """Return the messages in the order of the conversation, bounded and with whole tool calls.

    An answer comes after the question it answers (its parent), whatever was asked meanwhile. With
    a `last_message`, questions after it and their answers are left out, and it comes last; only
    the tool calls already made for it follow, so that a generation that failed after them goes on
    from there.
    """
    if not last_message:
        return _whole_calls(messages.sorted(_place)[-HISTORY_LIMIT:])
    past, own = messages.browse(), messages.browse()
    for message in messages.sorted(_place) - last_message:
        question = _place(message)[0]
        if question == last_message.id:
            own += message if message.llm_role == "tool" or _calls(message) else messages.browse()
        elif question < last_message.id or not (message.llm_role == "user" or _question(message)):
            past += message
    return _whole_calls(past[-HISTORY_LIMIT:]) + last_message + _whole_calls(own)


def _question(message):
    """Return the question that a message answers, where it is known."""
    parent = message.parent_id
    return parent if message.llm_role != "user" and parent.llm_role == "user" else parent.browse()


def _place(message):
    return (_question(message).id or message.id, message.id)


def _calls(message):
    if message.llm_role != "assistant":
        return []
    return [call.get("id") for call in data_of(message).get("tool_calls") or ()]


def _whole_calls(messages):
    """Leave out calls that were not all answered, and answers to no call.

    Services refuse a conversation that has one.
    """
    whole = messages.browse()
    group, missing = messages.browse(), set()
    for message in messages:
        call_id = data_of(message).get("tool_call_id")
        if message.llm_role == "tool":
            if call_id in missing:
                group += message
                missing.discard(call_id)
                if not missing:
                    whole += group
            continue
        missing = set(_calls(message))
        group = message
        if not missing:
            whole += message
    return whole
