"""How many files a reader needs to follow one generation."""

import sys
from pathlib import Path

from .common import LlmGenerationCommon

ROOT = Path(__file__).resolve().parents[1]
#: What is no part of the addon that a reader would open for it.
APART = ("tests", "addons", "dev")
#: The bar of the house is 20; a new file has to earn its place.
MOST_FILES = 26


class TestWay(LlmGenerationCommon):
    def test_one_generation_passes_few_files(self):
        thread = self._create_thread(self.direct_model)
        self.env.flush_all()
        passed = set()

        def note(frame, event, _argument):
            if event == "call":
                passed.add(frame.f_code.co_filename)

        sys.setprofile(note)
        try:
            events = list(thread.generate_response("Hello?", use_queue=True))
        finally:
            sys.setprofile(None)
        self.assertEqual(events[-1]["type"], "done")
        paths = (Path(name).resolve() for name in passed if not name.startswith("<"))
        ours = {
            str(path.relative_to(ROOT))
            for path in paths
            if path.suffix == ".py" and path.is_relative_to(ROOT)
            if path.relative_to(ROOT).parts[0] not in APART
        }
        # In a server, the threads of a runner besides, and what they hear with.
        ours |= {"runner/runner.py", "runner/executor.py", "runner/notifier.py", "runner/cursor.py"}
        self.assertGreater(len(ours), 8)
        self.assertLessEqual(len(ours), MOST_FILES, sorted(ours))
