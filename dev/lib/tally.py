"""Count what passed and failed, and keep what to say about the failures."""

from .say import say


class Tally:
    def __init__(self):
        self.passed = 0
        self.failures = []

    def ok(self, count=1):
        self.passed += count

    def fail(self, title, details=""):
        self.failures.append(title)
        say(f"FAILED {title}")
        for line in details.strip().splitlines()[-60:]:
            say(f"    {line}")

    def check(self, condition, title, details=""):
        if condition:
            self.ok()
        else:
            self.fail(title, details)
        return bool(condition)

    def close(self):
        """Say what failed and the line that a reader, or a program, looks for last."""
        if self.failures:
            say("\nFailed:")
            for title in self.failures:
                say(f"  - {title}")
        say(f"\n{self.passed} passed, {len(self.failures)} failed")
        return 1 if self.failures or not self.passed else 0
