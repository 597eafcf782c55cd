"""Has the examples of a README executed by tests."""

import functools
import re


class Page:
    """A page in Markdown, whose blocks ```python name``` are the examples."""

    def __init__(self, path):
        self.text = path.read_text(encoding="utf-8")
        self.title = f"{path.parent.name}/{path.name}"
        fences = re.findall(r"^```python (.*?)\n(.*?)^```$", self.text, re.MULTILINE | re.DOTALL)
        self.examples = [name for name, _code in fences]
        self._blocks = dict(fences)
        #: The examples that a test executes.
        self.executed = set()

    def example(self, name):
        """Give a test a function that executes an example and returns what it defines."""
        self.executed.add(name)

        def decorate(test):
            @functools.wraps(test)
            def run_test(case):
                runs = []

                def run(**names):
                    runs.append(name)
                    # A class is registered under the module that it is defined in.
                    names |= {"__name__": "odoo.addons.llm_generate_job_readme.models"}
                    exec(compile(self._blocks[name], f"{self.title}: {name}", "exec"), names)
                    return names

                test(case, run)
                case.assertTrue(runs, f"the test does not execute the example {name}")

            return run_test

        return decorate
