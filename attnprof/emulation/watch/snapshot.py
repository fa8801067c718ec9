"""PyTorch's snapshot of the caching allocator, without the import that it would trigger.

For the time of a snapshot, `_inductor` is taken out of `torch._lazy_modules`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def snapshot() -> dict[str, Any]:
    """Return `torch.cuda.memory._snapshot()`: the segments with their blocks, and the history of calls."""
    import torch

    with _without_inductor():
        found: dict[str, Any] = torch.cuda.memory._snapshot()
    return found


@contextmanager
def _without_inductor() -> Iterator[None]:
    """Hide torch's lazy `_inductor` module.

    To look for generated code, the snapshot evaluates `hasattr(torch, "_inductor")`, which imports the module and takes
    two seconds (torch/csrc/profiler/python/combined_traceback.cpp, py_symbolize; torch/__init__.py, __getattr__).
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
