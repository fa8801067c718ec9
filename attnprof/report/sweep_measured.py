"""The table of a measured workload: memory, latency and exactness of each strategy."""

from __future__ import annotations

from attnprof.cases.measurement import Outcome
from attnprof.cases.record import Record
from attnprof.report.grid import Column, Grid, Row
from attnprof.report.groups import Group
from attnprof.report.remarks import case_outcome_text, strategy_text
from attnprof.units import format_bytes, format_seconds

LEGENDS = (
    "* marks the lowest peak and the shortest latency of the exact strategies; ~ an approximate strategy; ? a "
    "latency that is uncertain.",
    "peak: highest memory allocated. step: the part of it that a step adds. speed: relative to naive. error: the "
    "largest, relative to float64.",
)

_COLUMNS = (
    Column("strategy", folds=True),
    Column("peak", right=True),
    Column("step", right=True, leaves=1),
    Column("latency", right=True),
    Column("speed", right=True, leaves=4),
    Column("error", right=True, leaves=3),
    Column("kernel", leaves=2),
)
_PEAK, _LATENCY = 1, 3


def measured_grid(one: Group) -> Grid:
    """Make the table of a workload, with a row for each strategy."""
    return Grid(f"{one.workload} - {one.device} (measured)", _COLUMNS, tuple(_row(r, one) for r in one.records))


def _row(record: Record, one: Group) -> Row:
    name, measurement = strategy_text(record), record.measurement
    kernel = measurement.kernel.name if measurement.kernel else ""
    if record.outcome is not Outcome.COMPLETED:
        return Row((name, "", "", case_outcome_text(record), "", "", kernel), failed=True)
    assert measurement.memory is not None
    best = {place for place, winner in {_PEAK: one.smallest, _LATENCY: one.fastest}.items() if record is winner}
    marks = {place: " *" if place in best else "" for place in (_PEAK, _LATENCY)}
    cells = (
        name,
        format_bytes(measurement.memory.peak_allocated_bytes) + marks[_PEAK],
        format_bytes(measurement.memory.step_bytes),
        _latency(record) + marks[_LATENCY],
        _speed(record, one.naive),
        _error(record),
        kernel,
    )
    return Row(cells, frozenset(best))


def _latency(record: Record) -> str:
    latency = record.measurement.latency
    if latency is None:
        return "-"
    return format_seconds(latency.median_seconds) + ("?" if latency.noisy else "")


def _speed(record: Record, naive: Record | None) -> str:
    mine, theirs = record.measurement.latency, naive.measurement.latency if naive else None
    return f"{theirs.median_seconds / mine.median_seconds:.1f}x" if mine and theirs else "-"


def _error(record: Record) -> str:
    """Return the larger of the output's and the gradients' relative error."""
    exactness = record.measurement.exactness
    if exactness is None:
        return "-"
    return f"{max(exactness.max_rel_error, exactness.grad_max_rel_error or 0.0):.0e}"
