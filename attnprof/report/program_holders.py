"""The part of a program's page on who held the memory."""

from __future__ import annotations

from collections.abc import Sequence

from attnprof.emulation.watch.findings import BACKWARD, EARLIER, GRADIENTS, IN_BACKWARD, LineHolder, ProcessFindings
from attnprof.report.grid import Column, Grid, Row
from attnprof.report.page import Section
from attnprof.report.program_lines import line_text
from attnprof.units import format_bytes

_SHOWN = 10
_COLUMNS = (
    Column("holds", right=True),
    Column("blocks", right=True, leaves=1),
    Column("largest", right=True, leaves=2),
    Column("allocated at", folds=True),
)
_PARTS = {
    GRADIENTS: "gradients of parameters",
    BACKWARD: "backward",
    EARLIER: "allocated before the recorded history",
}


def holders_of(process: ProcessFindings) -> tuple[LineHolder, ...]:
    """Return what held the memory when it ran out, else at the peak; the largest first."""
    if process.out_of_memory and process.out_of_memory.holders:
        return process.out_of_memory.holders
    return process.peak.holders if process.peak else ()


def workspace_bytes(process: ProcessFindings) -> int | None:
    """Return the size of all workspaces among what held the memory; None if that is unknown."""
    holders = holders_of(process)
    return sum(one.total_bytes for one in holders if one.workspace) if holders else None


def held(process: ProcessFindings) -> Section:
    """Return the table of what held the memory when it ran out, else at the peak."""
    failure, peak = process.out_of_memory, process.peak
    if failure and failure.holders:
        return (_grid("when memory ran out", failure.holders, failure.allocated_bytes),)
    if peak:
        when = "at the peak" if peak.allocated_bytes >= process.peak_allocated_bytes else "close to the peak"
        return (_grid(when, peak.holders, peak.allocated_bytes),)
    return ()


def holder_lines(holder: LineHolder) -> tuple[str, ...]:
    """Return what a holder is, the program's line that it belongs to, and the package's line that this led to."""
    lines = [line_text(line) for line in (holder.line, holder.package_line) if line]
    if holder.part == BACKWARD and lines:
        node = f" ({holder.operation})" if holder.operation and not holder.workspace else ""
        lines[0] = f"backward of {lines[0]}"
        lines[-1] += node
    elif holder.part == IN_BACKWARD and lines:
        lines[-1] += " (in backward)"
    elif holder.part:
        lines.append(_PARTS.get(holder.part, holder.part))
    if holder.workspace:
        operation = f" of {holder.operation}" if holder.operation else ""
        lines.insert(0, f"{holder.workspace} workspace{operation}")
    *before, last = lines or [""]
    tensor = f"[{holder.largest_tensor}]" if holder.largest_tensor else ""
    return (*before, " ".join(filter(None, (last, tensor))))


def _grid(when: str, holders: Sequence[LineHolder], allocated_bytes: int) -> Grid:
    shown = len(holders) if len(holders) <= _SHOWN + 1 else _SHOWN
    rows = [
        Row((format_bytes(one.total_bytes), str(one.blocks), format_bytes(one.largest_bytes), holder_lines(one)))
        for one in holders[:shown]
    ]
    rest = holders[shown:]
    if rest:
        total, blocks = format_bytes(sum(one.total_bytes for one in rest)), str(sum(one.blocks for one in rest))
        largest = format_bytes(max(one.largest_bytes for one in rest))
        rows.append(Row((total, blocks, largest, f"{len(rest)} others")))
    return Grid(f"Lines that held {format_bytes(allocated_bytes)} {when}", _COLUMNS, tuple(rows))
