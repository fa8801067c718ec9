"""The moment at which allocated memory was highest, and who held it then, from the allocator's history of calls.

The history is walked backwards from the blocks that are live now, undoing each call. It contains the requested bytes. A
block has a multiple of 512 bytes and sometimes the rest of a segment, which is unknown for a block that was freed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from .findings import ProgramPeak
from .forward_places import forward_places
from .holders import Block, holders_of, live_blocks
from .journal import Workspace
from .source_lines import Place, innermost, line_of, places_of_block
from .workspaces import Workspaces, match_workspaces

# The allocator forgets older calls. A training step of a large model makes about ten thousand.
HISTORY_CALLS = 100_000
_BLOCK_BYTES = 512  # kMinBlockSize, c10/core/AllocatorConfig.h
_LEAST_SHARE = 0.98  # if less of the allocator's own peak is found, the peak is older than the history


def find_peak(
    snapshot: dict[str, Any], device: int, step: int, peak_bytes: int, workspaces: Iterable[Workspace] = ()
) -> ProgramPeak | None:
    """Find the peak in a snapshot of the allocator.

    Args:
        snapshot: from `torch.cuda.memory._snapshot()`.
        device: the device's index.
        step: the optimizer step in which the peak is known to be.
        peak_bytes: the allocator's own peak.
        workspaces: the libraries' notes on their workspaces.

    Returns:
        The peak and its holders; None if the history does not go back to it.
    """
    blocks, last = blocks_at_peak(snapshot, device, workspaces)
    allocated_bytes = sum(block.size_bytes for block in blocks)
    if allocated_bytes < _LEAST_SHARE * peak_bytes:
        return None
    return ProgramPeak(step, allocated_bytes, line_of(innermost(last)[0]), holders_of(blocks))


def blocks_at_peak(
    snapshot: dict[str, Any], device: int, workspaces: Iterable[Workspace]
) -> tuple[list[Block], list[Place]]:
    """Return the blocks that were live when most memory was, and the stack that allocated the last of them.

    Args:
        snapshot: from `torch.cuda.memory._snapshot()`.
        device: the device's index.
        workspaces: the libraries' notes on their workspaces.
    """
    calls: list[dict[str, Any]] = snapshot["device_traces"][device]
    now = {block.address: block for block in live_blocks(snapshot, calls, workspaces)}
    best_bytes, best = 0, len(calls)
    for index, live_bytes, _ in _undone(calls, now):
        if live_bytes > best_bytes:
            best_bytes, best = live_bytes, index
    blocks = _blocks_at(best, calls, now, match_workspaces(calls, workspaces))
    return blocks, places_of_block(calls[best - 1]) if best else []


def _undone(
    calls: Sequence[dict[str, Any]], now: dict[int, Block]
) -> Iterator[tuple[int, int, dict[int, tuple[int, bool]]]]:
    """Undo the calls, the last first.

    Args:
        calls: the allocator's history.
        now: the blocks that are live after it, by address.

    Yields:
        The state after all calls, then before each: the index of the call, the live bytes, and for each address the
        block's size and whether it is still live now.
    """
    live = {address: (block.size_bytes, True) for address, block in now.items()}
    live_bytes = sum(size for size, _ in live.values())
    yield len(calls), live_bytes, live
    for index in range(len(calls) - 1, -1, -1):
        call = calls[index]
        if call["action"] == "alloc":
            live_bytes -= live.pop(call["addr"], (0, False))[0]
        elif call["action"] == "free_requested":
            size = -(-call["size"] // _BLOCK_BYTES) * _BLOCK_BYTES
            live[call["addr"]] = (size, False)
            live_bytes += size
        else:
            continue
        yield index, live_bytes, live


def _blocks_at(
    index: int, calls: Sequence[dict[str, Any]], now: dict[int, Block], workspaces: Workspaces
) -> list[Block]:
    """Return the blocks that were live before the call with this index."""
    live = next(dict(live) for at, _, live in _undone(calls, now) if at == index)
    allocated: dict[int, int] = {}  # the index of the call, by address
    for at in range(index - 1, -1, -1):
        if calls[at]["action"] == "alloc" and calls[at]["addr"] in live:
            allocated.setdefault(calls[at]["addr"], at)
        if len(allocated) == len(live):
            break
    blocks = []
    for address, (size, still) in live.items():
        at = allocated.get(address, -1)
        if at >= 0:
            places, forward = places_of_block(calls[at]), forward_places(calls[at].get("forward_frames", ()))
            blocks.append(Block(address, size, places, still, forward, workspaces.by_call.get(at)))
        else:
            older = workspaces.older.get(address)
            blocks.append(now[address] if still else Block(address, size, None, known=False, workspace=older))
    return blocks
