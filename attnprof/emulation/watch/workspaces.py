"""The blocks of the caching allocator that are workspaces of cuDNN, cuBLAS or cuBLASLt.

The emulated libraries note the address and the time at which they are given a workspace. The call that allocated it is
the last one before that which returned the address.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .journal import Workspace

_CLOCKS_DIFFER_US = 5  # the history's times are computed from a cycle counter


@dataclass(frozen=True)
class Workspaces:
    """The first note on each workspace.

    Attributes:
        by_call: for those that the history shows to be allocated, by the index of the call.
        older: for those that were allocated before the history begins, by their address.
    """

    by_call: dict[int, Workspace] = field(default_factory=dict)
    older: dict[int, Workspace] = field(default_factory=dict)


def match_workspaces(calls: Sequence[dict[str, Any]], notes: Iterable[Workspace]) -> Workspaces:
    """Find the blocks that are workspaces.

    Args:
        calls: the allocator's history, in PyTorch's snapshot.
        notes: the libraries' notes, the oldest first.
    """
    allocated: dict[int, list[tuple[int, int]]] = {}  # times and indices, by address
    for index, call in enumerate(calls):
        if call["action"] == "alloc":
            allocated.setdefault(call["addr"], []).append((call["time_us"], index))
    found = Workspaces()
    for note in notes:
        at_address = allocated.get(note.address, [])
        before = bisect_right(at_address, (note.time_us + _CLOCKS_DIFFER_US, len(calls)))
        if not before:
            found.older.setdefault(note.address, note)
        elif calls[at_address[before - 1][1]]["size"] >= note.size_bytes:
            found.by_call.setdefault(at_address[before - 1][1], note)
    return found
