"""The tables of emulated cards, which have memory alone: one card in full, or several side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from attnprof.cases.measurement import Outcome
from attnprof.cases.record import Record
from attnprof.cases.workload import Workload
from attnprof.report.grid import Column, Grid, Row
from attnprof.report.groups import Group
from attnprof.report.provenance import place_text
from attnprof.report.remarks import case_outcome_text, strategy_text
from attnprof.units import format_bytes

_MARKS = "* marks the lowest peak of the exact strategies; ~ an approximate strategy."
LEGENDS = (
    _MARKS,
    "peak: highest memory allocated. step: the part of it that a step adds. reserved: with the allocator's cache. "
    "total: with the CUDA context as well.",
)
LEGENDS_SIDE_BY_SIDE = (_MARKS, "Each cell: highest memory allocated, and the attention kernel (eff: efficient).")

_COLUMNS = (
    Column("strategy", folds=True),
    Column("peak", right=True),
    Column("step", right=True, leaves=1),
    Column("reserved", right=True, leaves=2),
    Column("total", right=True),
    Column("of card", right=True, leaves=4),
    Column("kernel", leaves=3),
)
_SHORT = {"efficient": "eff"}


def emulated_grids(groups: Sequence[Group]) -> Iterator[Grid]:
    """Yield a table for each workload; with several cards it has a column for each card."""
    cards = list(dict.fromkeys(one.device for one in groups))
    if len(cards) == 1:
        yield from map(_card_grid, groups)
        return
    by_workload: dict[Workload, dict[str, Group]] = {}
    for one in groups:
        by_workload.setdefault(one.workload, {})[one.device] = one
    for workload, of_card in by_workload.items():
        yield _cards_grid(workload, [of_card[card] for card in cards if card in of_card])


def _card_grid(one: Group) -> Grid:
    rows = tuple(_card_row(record, one) for record in one.records)
    return Grid(f"{one.workload} - {place_text(one.records[0])}", _COLUMNS, rows)


def _card_row(record: Record, one: Group) -> Row:
    name, memory, kernel = strategy_text(record), record.measurement.memory, record.measurement.kernel
    if record.outcome is not Outcome.COMPLETED or memory is None:
        return Row((name, case_outcome_text(record), "", "", "", "", kernel.name if kernel else ""), failed=True)
    smallest = record is one.smallest
    total = memory.device_bytes or 0
    cells = (
        name,
        format_bytes(memory.peak_allocated_bytes) + (" *" if smallest else ""),
        format_bytes(memory.step_bytes),
        format_bytes(memory.peak_reserved_bytes),
        format_bytes(total),
        f"{total / (record.environment.total_memory_bytes or total):.0%}",
        kernel.name if kernel else "",
    )
    return Row(cells, frozenset({1} if smallest else ()))


def _cards_grid(workload: Workload, groups: Sequence[Group]) -> Grid:
    columns = [Column("strategy", folds=True)]
    columns += [Column(_heading(one), right=True) for one in groups]
    strategies = dict.fromkeys(record.case.strategy for one in groups for record in one.records)
    rows = []
    for strategy in strategies:
        records = [next((r for r in one.records if r.case.strategy == strategy), None) for one in groups]
        pairs = list(zip(records, groups, strict=True))
        best = {place for place, (r, one) in enumerate(pairs, 1) if r is not None and r is one.smallest}
        name = next(strategy_text(r) for r in records if r is not None)
        failed = all(r is None or r.outcome is not Outcome.COMPLETED for r in records)
        rows.append(Row((name, *(_cell(r, one) for r, one in pairs)), frozenset(best), failed))
    return Grid(f"{workload} (emulated)", tuple(columns), tuple(rows))


def _heading(one: Group) -> str:
    return f"{one.device} {format_bytes(one.records[0].environment.total_memory_bytes)}"


def _cell(record: Record | None, one: Group) -> str:
    if record is None:
        return ""
    memory, kernel = record.measurement.memory, record.measurement.kernel
    if record.outcome is not Outcome.COMPLETED or memory is None:
        return case_outcome_text(record)
    words = [format_bytes(memory.peak_allocated_bytes)]
    if kernel:
        words.append(_SHORT.get(kernel.name, kernel.name))
    if record is one.smallest:
        words.append("*")
    return " ".join(words)
