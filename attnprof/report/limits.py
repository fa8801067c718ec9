"""Thresholds as a table, CSV and JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.text import Text

from attnprof.cases.axis import Axis, Threshold
from attnprof.cases.measurement import Outcome
from attnprof.cases.workload import Workload
from attnprof.report.grid import Column, Grid, Row, escaped, to_markdown_lines, to_rich
from attnprof.report.listing import csv_text, json_text
from attnprof.report.provenance import place_text
from attnprof.report.remarks import OUTCOME_WORDS, another_attention_lines
from attnprof.units import format_bytes

_LEGEND = "* largest of the exact   ~ approximate   memory ~ size^p: {what}"
_AMOUNTS = {"hw": "N = H * W", "batch": "the batch", "channels": "the channels"}
_COLUMNS = (
    Column("strategy", folds=True), Column("largest", right=True), Column("peak", right=True),
    Column("stopped at", right=True), Column("p", right=True), Column("probes", right=True),
)  # fmt: skip


def _of_record(threshold: Threshold, name: str) -> Any:
    record = threshold.record
    if record is None:
        return None
    return {
        "source": record.source.value,
        "device": record.environment.device_name,
        "gpu": record.card,
        "total_memory_bytes": record.environment.total_memory_bytes,
        "budget_bytes": record.settings.get("budget_bytes"),
    }[name]


def _of_workload(name: str, varied: str) -> Callable[[Threshold], Any]:
    return lambda t: None if t.axis.vary == varied else getattr(t.axis.base, name)


# In this order; a new column goes to the end.
_FIELDS: dict[str, Callable[[Threshold], Any]] = {
    "strategy": lambda t: t.strategy,
    "mode": lambda t: t.axis.base.mode,
    "vary": lambda t: t.axis.vary,
    "largest_ok": lambda t: t.largest_ok,
    "smallest_oom": lambda t: t.smallest_oom,
    "probes": lambda t: t.probes,
    "source": lambda t: _of_record(t, "source"),
    "device": lambda t: _of_record(t, "device"),
    "gpu": lambda t: _of_record(t, "gpu"),
    "dtype": lambda t: t.axis.base.dtype,
    "batch": _of_workload("batch", "batch"),
    "channels": _of_workload("channels", "channels"),
    "height": _of_workload("height", "hw"),
    "width": _of_workload("width", "hw"),
    "aspect": lambda t: t.axis.aspect if t.axis.vary == "hw" else None,
    "step": lambda t: t.axis.step,
    "smallest_failed": lambda t: t.smallest_failed,
    "failure": lambda t: t.failure.value if t.failure else None,
    "reason": lambda t: t.reason or None,
    "peak_bytes": lambda t: t.peak_bytes,
    "exponent": lambda t: t.exponent,
    "total_memory_bytes": lambda t: _of_record(t, "total_memory_bytes"),
    "budget_bytes": lambda t: _of_record(t, "budget_bytes"),
    "block": lambda t: t.axis.base.block,
}


def limits_csv(thresholds: Sequence[Threshold]) -> str:
    return csv_text(_FIELDS, map(_row_of, thresholds))


def limits_json(thresholds: Sequence[Threshold]) -> str:
    return json_text(map(_row_of, thresholds))


def limits_table(thresholds: Sequence[Threshold]) -> RenderableType:
    """For `rich.console.Console.print`; fits 80 columns."""
    parts: list[RenderableType] = []
    for grid in _grids(thresholds):
        parts += [Text(grid.title, style="bold"), to_rich(grid), Text()]
    return Lines(*parts, Text(_legend(thresholds), style="dim"), *map(Text, _remarks(thresholds)))


def limits_markdown(thresholds: Sequence[Threshold]) -> str:
    lines = [line for grid in _grids(thresholds) for line in to_markdown_lines(grid)]
    lines += [escaped(_legend(thresholds)), "", *(f"- {line}" for line in _remarks(thresholds))]
    return "\n".join(lines) + "\n"


def _row_of(threshold: Threshold) -> dict[str, Any]:
    return {name: value(threshold) for name, value in _FIELDS.items()}


def _grids(thresholds: Sequence[Threshold]) -> list[Grid]:
    groups: dict[tuple[str, Axis], list[Threshold]] = {}
    for threshold in thresholds:
        groups.setdefault((_where(threshold), threshold.axis), []).append(threshold)
    return [
        Grid(f"{_fixed(axis)} - {where}", _COLUMNS, tuple(_row(t, _best(members)) for t in members))
        for (where, axis), members in groups.items()
    ]


def _where(threshold: Threshold) -> str:
    return place_text(threshold.record) if threshold.record else "not tried"


def _fixed(axis: Axis) -> str:
    """The workload with a letter for what varies: `1x128xHxW fp32 train`."""
    w: Workload = axis.base
    names = {"hw": ("H", "W"), "batch": ("B",), "channels": ("C",)}[axis.vary]
    batch = "B" if "B" in names else str(w.batch)
    channels = "C" if "C" in names else str(w.channels)
    size = "HxW" if "H" in names else f"{w.height}x{w.width}"
    return f"{batch}x{channels}x{size} {w.kind}"


def _best(thresholds: Sequence[Threshold]) -> Threshold | None:
    exact = [t for t in thresholds if t.largest_ok and t.record and t.record.case.parsed.exact]
    return max(exact, key=lambda t: t.largest_ok or 0, default=None)


def _row(threshold: Threshold, best: Threshold | None) -> Row:
    axis, largest = threshold.axis, threshold.largest_ok
    approximate = threshold.record is not None and not threshold.record.case.parsed.exact
    winner = threshold is best
    stopped = ""
    if threshold.smallest_failed is not None and threshold.failure is not None:
        stopped = f"{axis.text(threshold.smallest_failed)} {OUTCOME_WORDS[threshold.failure]}"
    closed = threshold.closed
    cells = (
        f"~{threshold.strategy}" if approximate else threshold.strategy,
        ("" if closed else ">= ") + axis.text(largest) + (" *" if winner else "") if largest else "none",
        format_bytes(threshold.peak_bytes),
        stopped if closed else "not found",
        f"{threshold.exponent:.2f}" if threshold.exponent is not None else "-",
        str(threshold.probes),
    )
    return Row(cells, frozenset({1} if winner else ()), failed=largest is None)


def _legend(thresholds: Sequence[Threshold]) -> str:
    return _LEGEND.format(what=_AMOUNTS[thresholds[0].axis.vary])


def _remarks(thresholds: Sequence[Threshold]) -> list[str]:
    """What computes something else; why a search ended, where that is not out of memory, each reason once."""
    told: dict[str, list[str]] = {}
    for t in thresholds:
        if t.reason and not (t.closed and t.failure is Outcome.OUT_OF_MEMORY):
            told.setdefault(t.reason, []).append(t.strategy)
    ends = [f"{', '.join(dict.fromkeys(names))}: {reason}" for reason, names in told.items()]
    return [*another_attention_lines(t.record for t in thresholds if t.record), *ends]
