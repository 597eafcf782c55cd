"""What a provider was asked during one attempt, and what it raised."""


class Watch:
    """Goes with the context of a direct generation, as `generation_watch`.

    It tells an error of the provider from one of the code around it.
    """

    def __init__(self):
        self.has_asked = False
        self.error = None

    def ask(self, method, *args, **kwargs):
        """Call a method of a provider, and note that it was called and what it raises."""
        self.has_asked = True
        try:
            answer = method(*args, **kwargs)
        except Exception as error:
            self.error = error
            raise
        return self._chunks(answer) if hasattr(answer, "__next__") else answer

    def _chunks(self, chunks):
        try:
            yield from chunks
        except Exception as error:
            self.error = error
            raise
