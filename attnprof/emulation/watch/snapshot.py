"""PyTorch's snapshot of the caching allocator, without what it brings along."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def snapshot() -> dict[str, Any]:
    """`torch.cuda.memory._snapshot()`: segments with their blocks, and the history of calls."""
    import torch

    with _without_inductor():
        found: dict[str, Any] = torch.cuda.memory._snapshot()
    return found


@contextmanager
def _without_inductor() -> Iterator[None]:
    """To look for generated code, the snapshot asks `hasattr(torch, "_inductor")`, which imports it: two seconds.

    (torch/csrc/profiler/python/combined_traceback.cpp, py_symbolize; torch/__init__.py, __getattr__)
    """
    import torch

    lazy: set[str] = getattr(torch, "_lazy_modules", set())
    unused = "torch._inductor" not in sys.modules and "_inductor" in lazy
    if unused:
        lazy.remove("_inductor")
    try:
        yield
    finally:
        if unused:
            lazy.add("_inductor")
