"""The use that a program makes of a value that it read, as far as its source tells."""

import math  # noqa: F401  (the programs use it)
import sys
import textwrap

import pytest

from attnprof.emulation.watch.findings import BRANCH, PRINTED, SAVED, SIZE, UNKNOWN, UNUSED
from attnprof.emulation.watch.value_uses import use_of

PREFIX = """\
import math


class Value:
    def item(self):
        return read()

    def __bool__(self):
        return bool(read())

    def __gt__(self, other):
        return self

    def __getitem__(self, index):
        return self

    def all(self):
        return self

    def nonzero(self):
        return read()

    def __format__(self, form):
        return str(read())

    __str__ = __repr__ = lambda self: str(read())


x, data, limit = Value(), [0] * 9, 3


def torch_like(value):
    return value.item()
"""

BRANCHES = [
    "if x.item() > 3: pass",
    "if x > 3:\n    pass",
    "while not x.all():\n    break",
    "assert not x.all()",
    "y = 1 if x else 2",
    "loss = x.item()\nif math.isnan(loss):\n    pass",
    "total = 0\nfor _ in range(2):\n    total += x.item()\nmean = total / 2\nif mean < 1:\n    print(mean)",
    "values = [x.item() for _ in range(2)]\nbest = [v for v in values if v > 3]",
    "if sum(v.item() for v in [x]):\n    pass",
    "def metric():\n    value = x.item()\n    return round(value, 2)\nif metric() > 1:\n    pass",
    "seen = []\nseen.append(x.item())\nif seen[-1] > 3:\n    pass",
    "if (a := x.item()) > 1:\n    pass",
    "if torch_like(x):\n    pass",
    "check = lambda: x.item()\nif check():\n    pass",
]
SIZES = [
    "range(x.item())",
    "n = int(x.item())\ndata[:n]",
    "list(range(1 + x.item()))",
    "y = x.nonzero()",
]
PRINTS = [
    "print(x.item())",
    'print(f"loss {x.item():.2f}")',
    'print(f"loss {x}")',
    'print("%d" % x.item())',
    'print("{}".format(x))',
    "print(x)",
    "total = 0\ntotal += x.item()\nprint('loss', total / 3)",
    "metrics = {'loss': x.item()}\nprint(metrics)",
    "losses = []\nfor _ in range(2):\n    losses.append(x.item())\nprint(sum(losses) / len(losses))",
    "def inner(data):\n    mean = 1\n    if mean > 3:\n        pass\nmean = x.item()\nprint(mean)",
]
SAVES = ["import json\njson.dumps(x.item())"]
UNUSED_ONES = ["x.item()", "_ = x.item()"]
UNKNOWNS = [
    "def consume(value): pass\nconsume(x.item())",
    "x.loss = x.item()",
    "def consume(value): pass\nv = x.item()\nprint(v)\nconsume(v)",
]
CASES = [
    (text, use)
    for texts, use in (
        (BRANCHES, BRANCH),
        (SIZES, SIZE),
        (PRINTS, PRINTED),
        (SAVES, SAVED),
        (UNUSED_ONES, UNUSED),
        (UNKNOWNS, UNKNOWN),
    )
    for text in texts
]


def uses(path, text):
    """Run a program whose values come from `read`, and return the uses that are found of them."""
    found = set()

    def read():
        frame, stack = sys._getframe(1), []
        # A real value is read in C, beneath which the program's own line is the innermost, not a method of Value.
        while frame is not None and isinstance(frame.f_locals.get("self"), frame.f_globals["Value"]):
            frame = frame.f_back
        while frame is not None and frame.f_code.co_filename == str(path):
            stack.append((frame.f_code, frame.f_lasti))
            frame = frame.f_back
        found.add(use_of(stack)[0])
        return 0

    path.write_text(text)
    exec(compile(text, str(path), "exec"), {"read": read, "__name__": "program"})
    return found


needs_positions = pytest.mark.skipif(sys.version_info < (3, 11), reason="Python tells only lines before 3.11")


@needs_positions
@pytest.mark.parametrize(("text", "use"), CASES, ids=[text for text, _ in CASES])
def test_the_use_of_a_value(tmp_path, text, use):
    body = textwrap.indent(text, "    ")
    assert uses(tmp_path / "module.py", f"{PREFIX}\n{text}\n") == {use}
    assert uses(tmp_path / "function.py", f"{PREFIX}\ndef main():\n{body}\n\nmain()\n") == {use}


@needs_positions
def test_a_source_that_cannot_be_read_leaves_the_use_unknown(tmp_path):
    found = set()

    def read():
        frame = sys._getframe(1)
        found.add(use_of([(frame.f_code, frame.f_lasti)])[0])

    exec(compile("if read(): pass", "<generated>", "exec"), {"read": read})
    assert found == {UNKNOWN}
