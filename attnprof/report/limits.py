"""The page of `attnprof limits`: the largest size that fits, for each strategy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attnprof.cases.axis import Axis, Threshold
from attnprof.cases.measurement import Outcome
from attnprof.cases.workload import Workload
from attnprof.report.grid import Column, Grid, Row
from attnprof.report.page import Field, Kind, Page, Paragraph, Section, names_of, paragraphs, rows_of
from attnprof.report.provenance import place_text
from attnprof.report.remarks import another_attention_remarks, outcome_text
from attnprof.units import format_bytes

_LEGEND = (
    "* marks the largest of the exact strategies; ~ an approximate strategy. p: peak memory grows with {what} to the "
    "power of p."
)
_AMOUNTS = {"hw": "N = H * W", "batch": "the batch", "channels": "the channels"}
_COLUMNS = (
    Column("strategy", folds=True),
    Column("largest", right=True),
    Column("peak", right=True, leaves=3),
    Column("fails at", right=True, leaves=4),
    Column("p", right=True, leaves=2),
    Column("probes", right=True, leaves=1),
)


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


# A new column goes to the end, so that those who read columns by position are not surprised.
FIELDS: tuple[Field[Threshold], ...] = (
    Field("strategy", lambda t: t.strategy, "The strategy's canonical spelling."),
    Field("mode", lambda t: t.axis.base.mode, "`forward` or `train`."),
    Field("vary", lambda t: t.axis.vary, "What the search varied: `hw`, `batch` or `channels`."),
    Field("largest_ok", lambda t: t.largest_ok, "The largest size that ran; for `hw` the height."),
    Field("smallest_oom", lambda t: t.smallest_oom, "The smallest size that ran out of memory."),
    Field("probes", lambda t: t.probes, "Number of cases that were looked at."),
    Field("source", lambda t: _of_record(t, "source"), "`measured` on a device of this machine, or `emulated`."),
    Field("device", lambda t: _of_record(t, "device"), "The device's name."),
    Field("gpu", lambda t: _of_record(t, "gpu"), "The emulated card as `--gpu` spells it; empty if measured."),
    Field("dtype", lambda t: t.axis.base.dtype, "The workload's dtype."),
    Field("batch", _of_workload("batch", "batch"), "Images in the input; empty if it varies."),
    Field("channels", _of_workload("channels", "channels"), "Channels of the input; empty if they vary."),
    Field("height", _of_workload("height", "hw"), "Height of the input; empty if it varies."),
    Field("width", _of_workload("width", "hw"), "Width of the input; empty if it varies."),
    Field("aspect", lambda t: t.axis.aspect if t.axis.vary == "hw" else None, "Width over height, if the size varies."),
    Field("step", lambda t: t.axis.step, "Sizes are multiples of this."),
    Field("smallest_failed", lambda t: t.smallest_failed, "The smallest size that did not run, for whatever reason."),
    Field(
        "failure",
        lambda t: t.failure.value if t.failure else None,
        "How it ended: `out_of_memory`, `unsupported`, `timed_out` or `crashed`.",
    ),
    Field("reason", lambda t: t.reason or None, "One line on that end, or on why the search stopped earlier."),
    Field("peak_bytes", lambda t: t.peak_bytes, "Peak allocated bytes of the largest size that ran."),
    Field(
        "exponent",
        lambda t: t.exponent,
        "p in peak ~ amount^p, between the two largest sizes that ran and are not neighbours.",
    ),
    Field("total_memory_bytes", lambda t: _of_record(t, "total_memory_bytes"), "The device's total memory."),
    Field("budget_bytes", lambda t: _of_record(t, "budget_bytes"), "The memory that a case was allowed (`--budget`)."),
    Field("block", lambda t: t.axis.base.block, "The block, as `--block` takes it."),
)


def limits_page(thresholds: Sequence[Threshold]) -> Page:
    """Make the page of these thresholds: a table for each device and axis."""
    notes: Section = (Paragraph(Kind.LEGEND, _legend(thresholds)), *paragraphs(Kind.REMARK, _remarks(thresholds)))
    grids: list[Section] = [(grid,) for grid in _grids(thresholds)]
    return Page((*grids, notes), names_of(FIELDS), rows_of(FIELDS, thresholds))


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
    """Return the workload with a letter for what varies: `1x128xHxW fp32 train`."""
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
        stopped = f"{axis.text(threshold.smallest_failed)} {outcome_text(threshold.failure)}"
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
    """Return which strategies compute another function, and why searches ended other than out of memory."""
    reasons: dict[str, list[str]] = {}
    for t in thresholds:
        if t.reason and not (t.closed and t.failure is Outcome.OUT_OF_MEMORY):
            reasons.setdefault(t.reason, []).append(t.strategy)
    ends = [f"{', '.join(dict.fromkeys(names))}: {reason}" for reason, names in reasons.items()]
    return [*another_attention_remarks(t.record for t in thresholds if t.record), *ends]
