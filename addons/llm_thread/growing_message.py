"""A message of a thread that grows with its stream."""

from markupsafe import Markup

from .error_text import explain
from .exceptions import AnswerError


def data_of(message):
    """Return `body_json` where it is a dict: other addons may keep anything there."""
    return message.body_json if isinstance(message.body_json, dict) else {}


class GrowingMessage:
    """Writes one streamed answer; what is promised of it is at `message_post_from_stream()`."""

    def __init__(self, thread, llm_role, placeholder_text, values):
        self.thread = thread
        self.llm_role = llm_role
        self.placeholder_text = placeholder_text
        self.values = values
        self.message = thread.env["mail.message"]
        self.written = None

    def follow(self, answer):
        """Yield the events of an `AnswerStream`, and return its message."""
        yield from self._grow(answer)
        if answer.failed or answer.is_empty:
            error = self._error_of(answer)
            if self.message:
                self._mark_as_error(answer, error)
                yield self._event("message_update")
            raise error
        values = {}
        if answer.text != self.written:
            values["body"] = self._html_of(answer.text)
        if answer.tool_calls:
            values["body_json"] = {**data_of(self.message), "tool_calls": answer.tool_calls}
        if values:
            self.message.write(values)
        usage = {"usage": answer.usage} if answer.usage else {}
        yield self._event("message_update", **usage)
        return self.message  # noqa: B901 - to "yield from"

    def _grow(self, answer):
        try:
            for _due in answer:
                event_type = "message_chunk" if self.message else "message_create"
                self._put(answer.text or self.placeholder_text)
                yield self._event(event_type)
        except GeneratorExit:
            # Whoever listened is gone, maybe with the cursor: keep what came where one still can.
            if self.message and not self.message.env.cr.closed:
                self.message.write({"body": self._html_of(answer.text)})
            raise
        finally:
            answer.close()

    def _put(self, text):
        if self.message:
            self.message.write({"body": self._html_of(text)})
        else:
            self.message = self.thread.message_post(
                body=text, llm_role=self.llm_role, **self.values
            )
        self.written = text

    def _event(self, event_type, **values):
        return self.thread._event(event_type, self.message, **values)

    def _error_of(self, answer):
        if answer.error:
            return answer.error
        return AnswerError(
            answer.error_text
            or self.thread.env._("The model answered nothing. Say it in other words, or try again.")
        )

    def _mark_as_error(self, answer, error):
        sentence = Markup("<p><em>%s</em></p>") % explain(self.thread.env, error)
        self.message.write({"body": self._html_of(answer.text) + sentence, "is_error": True})

    def _html_of(self, text):
        # Written and not assigned: Odoo would clean it before those hear of it who know its text.
        return self.thread._process_llm_body(text or "")
