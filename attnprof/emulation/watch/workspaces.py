"""The blocks of the caching allocator that are workspaces of cuDNN, cuBLAS or cuBLASLt.

The emulated libraries note the address and the time at which they are given a workspace. The call that allocated it is
the last one before that which returned the address.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Any

from .journal import Workspace

_CLOCKS_DIFFER_US = 5  # the history's times are computed from a cycle counter


def workspaces_of_calls(calls: Sequence[dict[str, Any]], workspaces: Iterable[Workspace]) -> dict[int, Workspace]:
    """Find the calls that allocated workspaces.

    Args:
        calls: the allocator's history, in PyTorch's snapshot.
        workspaces: the libraries' notes.

    Returns:
        The first note on each workspace, by the index of the call.
    """
    allocated: dict[int, list[tuple[int, int]]] = {}  # times and indices, by address
    for index, call in enumerate(calls):
        if call["action"] == "alloc":
            allocated.setdefault(call["addr"], []).append((call["time_us"], index))
    found: dict[int, Workspace] = {}
    for note in workspaces:
        at_address = allocated.get(note.address, [])
        before = bisect_right(at_address, (note.time_us + _CLOCKS_DIFFER_US, len(calls)))
        if before and calls[at_address[before - 1][1]]["size"] >= note.size_bytes:
            found.setdefault(at_address[before - 1][1], note)
    return found
