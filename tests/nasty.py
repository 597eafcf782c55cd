"""Texts and values that a hostile provider, model or person may send."""

NAN = float("nan")


def _deep(levels):
    value = []
    for _level in range(levels):
        value = [value]
    return value


TEXTS = {
    "script": "<script>alert(1)</script><img src=x onerror=alert(1)><a href='javascript:x()'>a</a>",
    "markup": "</p></div><form action=//evil.example><input name=password></form><!-- -->",
    "template": "{{ 7*7 }} {% raise %} <t t-esc='object.env'/> ${7*7} #{7*7} %s %(name)s {0} {x!r}",
    "bidirectional": "invoice\u202egpj.exe \u2066\u2067\u202d\u2069 abc",
    "nul": "before\x00after",
    "control": "bell\x07 escape\x1b[31m form\x0c \x08\x7f\x9b \ufffe\uffff",
    "surrogates": "lone \ud800 and \udfff, reversed \udc00\ud800",
    "newlines": "a\r\nb\u2028c\u2029d\x85e\n" * 50,
    "combining": "Z\u0301\u0300\u0302" * 2000,
    "long": "0123456789 " * 475_000,
    "long word": "x" * 100_000,
    "open tags": "<b>" * 20_000,
    "backticks": "```" * 5001 + "**" * 5001 + "`" * 5001,
    "entities": "&lt;script&gt; &#0; &#x110000; &nbsp &amp;amp;",
    "sql": "'; DROP TABLE llm_generation_job; -- \\",
    "json": '{"a": [' * 2000,
}

VALUES = {
    "deep list": _deep(10_000),
    "deep dict": {"a": {"b": _deep(2000)}},
    "not a number": {"a": NAN, "b": [float("inf"), -float("inf")]},
    "huge number": {"a": 10**400, "b": -(10**5000), "c": 1e308},
    "nul": {"a\x00b": "c\x00d"},
    "surrogates": {"\ud800": ["\udfff"]},
    "many keys": {str(number): number for number in range(5_000)},
    "odd keys": {None: 1, 2: "b", True: "c"},
    "five megabytes": {"a": "x" * 1_500_000},
    "bytes": {"a": b"\x00\xff"},
    "object": {"a": object()},
    "set": {"a": {1, 2}},
    "list": [1, [2]],
    "text": "just a text\x00",
    "number": 10**400,
    "nothing": None,
    "true": True,
}
