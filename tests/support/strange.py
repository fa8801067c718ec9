"""Values from Python that no option means."""

import itertools
import math
from pathlib import Path

import numpy as np


class Broken:
    def __repr__(self):
        raise ValueError("no")

    def __index__(self):
        raise RuntimeError("no")

    def __fspath__(self):
        raise TypeError("no")


class Endless:
    def __iter__(self):
        return itertools.count(1)


STRANGE = [
    None, 1.5, math.nan, math.inf, -1, 0, 10**30, 10**5000, True, "", "x", "\x1b[2J", "\ud800", "a\0b", b"8", {},
    {"a": 1}, [], [[]], [None], [(8, 16, 4)], object(), Broken(), Endless(), np.float64("nan"), np.array([[1.5]]),
    lambda: 8, type, range(10**9), Path("a\0b"), [Broken()], "9" * 5000, {"8"}, np.datetime64("NaT"), complex(1, 1),
]  # fmt: skip
