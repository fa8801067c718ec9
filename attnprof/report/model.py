"""A model's profile for a person, and its rows as CSV and JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.text import Text

from attnprof.cases.axis import Threshold
from attnprof.cases.case import AS_IS
from attnprof.cases.measurement import Outcome, Source
from attnprof.cases.record import Record
from attnprof.cases.workload import ModelWorkload
from attnprof.report.grid import Column, Grid, Row, escaped, to_markdown_lines, to_rich
from attnprof.report.listing import csv_text, json_text
from attnprof.report.modules import rolled_up, within
from attnprof.report.provenance import place_text
from attnprof.report.remarks import OUTCOME_WORDS, failure_lines, note_lines, strategy_text
from attnprof.studies.model import ModelProfile
from attnprof.units import format_bytes, format_seconds

_LEGEND = "~ approximate   inside operators: their temporaries, and workspaces"
_TRAINING = "peak, reserved: over two steps, so with gradients and optimizer state"
_STEP = Column("a step", right=True)
_COLUMNS = (
    Column("strategy", folds=True), Column("peak", right=True), Column("reserved", right=True), _STEP,
    Column("largest batch", right=True),
)  # fmt: skip
_SIDE_BY_SIDE = 3  # strategies in a table of what is held, for 80 columns
_PARTS = 8  # of a model that are named

_FIELDS: dict[str, Callable[[ModelProfile, Record], Any]] = {
    "strategy": lambda p, r: r.case.strategy,
    "exact": lambda p, r: r.case.parsed.exact,
    "target": lambda p, r: _workload(r).target,
    "batch": lambda p, r: r.case.workload.batch,
    "inputs": lambda p, r: _workload(r).inputs,
    "mode": lambda p, r: r.case.workload.mode,
    "dtype": lambda p, r: r.case.workload.dtype,
    "optimizer": lambda p, r: _workload(r).optimizer or None,
    "amp": lambda p, r: _workload(r).amp,
    "checkpointing": lambda p, r: _workload(r).checkpointing,
    "channels_last": lambda p, r: _workload(r).channels_last,
    "source": lambda p, r: r.source.value,
    "device": lambda p, r: r.environment.device_name,
    "gpu": lambda p, r: r.card,
    "outcome": lambda p, r: r.outcome.value,
    "peak_allocated_bytes": lambda p, r: r.measurement.memory.peak_allocated_bytes if r.measurement.memory else None,
    "peak_reserved_bytes": lambda p, r: r.measurement.memory.peak_reserved_bytes if r.measurement.memory else None,
    "need_bytes": lambda p, r: p.needs.get(r.case.strategy),
    "latency_median_seconds": lambda p, r: r.measurement.latency.median_seconds if r.measurement.latency else None,
    "latency_iqr_seconds": lambda p, r: r.measurement.latency.iqr_seconds if r.measurement.latency else None,
    "largest_batch": lambda p, r: _of_search(p, r, "largest_ok"),
    "smallest_oom_batch": lambda p, r: _of_search(p, r, "smallest_oom"),
    "peak_phase": lambda p, r: _of_peak(r, "phase"),
    "peak_module": lambda p, r: _of_peak(r, "module"),
    "peak_operation": lambda p, r: _of_peak(r, "operation"),
    "held": lambda p, r: _of_peak(r, "held"),
    "modules": lambda p, r: _of_peak(r, "modules"),
    "total_memory_bytes": lambda p, r: r.environment.total_memory_bytes,
    "patched": lambda p, r: ", ".join(r.measurement.patched) or None,
    "reason": lambda p, r: r.reason or None,
    "notes": lambda p, r: "; ".join(r.measurement.notes) or None,
}


def model_table(profiles: Sequence[ModelProfile]) -> RenderableType:
    """For `rich.console.Console.print`; fits 80 columns."""
    parts: list[RenderableType] = []
    for profile in profiles:
        for grid in _grids(profile):
            parts += [Text(grid.title, style="bold"), to_rich(grid), Text()]
        parts += map(Text, _remarks(profile))
        parts += [Text(line, style="bold") for line in _verdicts(profile)]
        parts.append(Text())
    return Lines(*parts, *(Text(line, style="dim") for line in _legends(profiles)))


def model_markdown(profiles: Sequence[ModelProfile]) -> str:
    lines: list[str] = []
    for profile in profiles:
        lines += [line for grid in _grids(profile) for line in to_markdown_lines(grid)]
        lines += [*(f"- {escaped(line)}" for line in _remarks(profile)), "", *map(escaped, _verdicts(profile)), ""]
    return "\n".join([*lines, *map(escaped, _legends(profiles))]) + "\n"


def model_csv(profiles: Sequence[ModelProfile]) -> str:
    """A row a strategy; `held` and `modules` as `name: bytes; ...`."""
    rows = []
    for row in _rows(profiles):
        listed = {
            name: "; ".join(f"{key}: {size}" for key, size in row[name].items()) if row[name] else None
            for name in ("held", "modules")
        }
        rows.append({**row, **listed})
    return csv_text(_FIELDS, rows)


def model_json(profiles: Sequence[ModelProfile]) -> str:
    return json_text(_rows(profiles))


def _legends(profiles: Sequence[ModelProfile]) -> list[str]:
    return [_LEGEND, *([_TRAINING] if any(profile.workload.mode == "train" for profile in profiles) else [])]


def _rows(profiles: Sequence[ModelProfile]) -> list[dict[str, Any]]:
    return [{name: value(p, r) for name, value in _FIELDS.items()} for p in profiles for r in p.records]


def _workload(record: Record) -> ModelWorkload:
    assert isinstance(record.case.workload, ModelWorkload)
    return record.case.workload


def _of_search(profile: ModelProfile, record: Record, name: str) -> int | None:
    threshold = profile.largest_batches.get(record.case.strategy)
    return getattr(threshold, name) if threshold else None


def _of_peak(record: Record, name: str) -> Any:
    return getattr(record.measurement.peak, name) if record.measurement.peak else None


def _grids(profile: ModelProfile) -> Iterator[Grid]:
    title = f"{profile.workload} - {place_text(profile.as_is)}"
    # An emulated card takes no time of its own.
    shown = [place for place, column in enumerate(_COLUMNS) if profile.as_is.source is Source.MEASURED
             or column is not _STEP]  # fmt: skip
    rows = (_row(record, profile) for record in profile.records)
    picked = (Row(tuple(row.cells[place] for place in shown), failed=row.failed) for row in rows)
    yield Grid(title, tuple(_COLUMNS[place] for place in shown), tuple(picked))
    located = [record for record in profile.records if record.measurement.peak]
    for start in range(0, len(located), _SIDE_BY_SIDE):
        yield _held_grid(located[start : start + _SIDE_BY_SIDE])


def _row(record: Record, profile: ModelProfile) -> Row:
    batch = _batch_text(profile.largest_batches.get(record.case.strategy))
    if record.outcome is not Outcome.COMPLETED:
        need = profile.needs.get(record.case.strategy)
        words = OUTCOME_WORDS[record.outcome] + (f", needs {format_bytes(need)}" if need else "")
        return Row((strategy_text(record), words, "", "", batch), failed=True)
    memory, latency = record.measurement.memory, record.measurement.latency
    assert memory is not None
    cells = (
        strategy_text(record),
        format_bytes(memory.peak_allocated_bytes),
        format_bytes(memory.peak_reserved_bytes),
        format_seconds(latency.median_seconds) + ("?" if latency.noisy else "") if latency else "-",
        batch,
    )
    return Row(cells)


def _batch_text(threshold: Threshold | None) -> str:
    if threshold is None:
        return "-"
    if threshold.largest_ok is None:
        return "none"
    return ("" if threshold.closed else ">= ") + str(threshold.largest_ok)


def _held_grid(records: Sequence[Record]) -> Grid:
    """What is held at each strategy's peak: by kind, and of activations by module."""
    peaks = [record.measurement.peak for record in records if record.measurement.peak]
    columns = (Column("at the peak", folds=True), *(Column(r.case.strategy, right=True, folds=True) for r in records))
    rows = [
        Row(("phase", *map(_phase, records))),
        Row(("in module", *(peak.module or "-" for peak in peaks))),
        Row(("allocated", *(format_bytes(peak.allocated_bytes) for peak in peaks))),
    ]
    kinds = dict.fromkeys(kind for peak in peaks for kind in peak.held)
    rows += [Row((f"  {kind}", *(_size(peak.held.get(kind)) for peak in peaks))) for kind in kinds]
    parts = rolled_up([peak.modules for peak in peaks])
    if parts:
        rows.append(Row(("made by modules", *("" for _ in peaks))))
        rows += [Row((f"  {part}", *(_size(within(peak.modules, part)) for peak in peaks))) for part in parts[:_PARTS]]
        rest = [sum(within(peak.modules, part) for part in parts[_PARTS:]) for peak in peaks]
        if any(rest):
            rows.append(Row(("  other modules", *map(_size, rest))))
    return Grid("What is held when it is highest", columns, tuple(rows))


def _phase(record: Record) -> str:
    assert record.measurement.peak is not None
    return record.measurement.peak.phase + (": OOM" if record.outcome is Outcome.OUT_OF_MEMORY else "")


def _size(count: int | None) -> str:
    return format_bytes(count) if count else "-"


def _remarks(profile: ModelProfile) -> Iterator[str]:
    patched: dict[tuple[str, ...], list[str]] = {}
    for record in profile.records:
        if record.measurement.patched:
            patched.setdefault(record.measurement.patched, []).append(record.case.strategy)
    for paths, names in patched.items():
        shown = ", ".join(path or "the model itself" for path in paths[:_PARTS])
        more = f" and {len(paths) - _PARTS} more" if len(paths) > _PARTS else ""
        yield f"patched by {', '.join(names)}: {shown}{more}"
    yield from failure_lines(profile.records)
    yield from note_lines(profile.records)
    if profile.not_searched:
        yield f"largest batch: {profile.not_searched}"
    told = {t.reason for t in profile.largest_batches.values() if not t.closed and t.reason}
    yield from (f"largest batch: {reason}" for reason in sorted(told))


def _verdicts(profile: ModelProfile) -> Iterator[str]:
    """What patching would save, for each strategy that ran."""
    before = _bytes(profile.as_is, profile)
    for record in profile.records:
        memory = record.measurement.memory
        if record.case.strategy == AS_IS or record.outcome is not Outcome.COMPLETED or memory is None:
            continue
        text = f"{record.case.strategy}: peak {format_bytes(memory.peak_allocated_bytes)}"
        if before:
            text += f" instead of {format_bytes(before)}" + (
                ", which does not fit" if profile.as_is.outcome is Outcome.OUT_OF_MEMORY else ""
            )
        mine, theirs = (profile.largest_batches.get(name) for name in (record.case.strategy, AS_IS))
        if mine and theirs and mine.largest_ok:
            text += f"; a batch of {_batch_text(mine)} instead of {_batch_text(theirs)}"
        yield f"{text}."


def _bytes(record: Record, profile: ModelProfile) -> int | None:
    memory = record.measurement.memory
    return memory.peak_allocated_bytes if memory else profile.needs.get(record.case.strategy)
