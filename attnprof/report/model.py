"""The page of `attnprof model`: what a whole model costs, what holds its peak, and what patching saves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attnprof.cases.axis import Threshold
from attnprof.cases.case import AS_IS
from attnprof.cases.measurement import Outcome, Source
from attnprof.cases.record import Record
from attnprof.cases.workload import ModelWorkload
from attnprof.report.grid import Column, Grid, Row
from attnprof.report.page import Field, Kind, Page, Section, names_of, paragraphs, rows_of
from attnprof.report.provenance import place_text
from attnprof.report.remarks import failure_remarks, note_remarks, outcome_text, strategy_text
from attnprof.studies.model import ModelProfile
from attnprof.units import format_bytes, format_seconds

_LEGEND = '~ marks an approximate strategy. "inside operators": their temporaries, and workspaces without a row.'
_TRAINING = "peak and reserved are of two steps, so gradients and optimizer state are in them."
_STEP = Column("a step", right=True, leaves=2)
_COLUMNS = (
    Column("strategy", folds=True),
    Column("peak", right=True),
    Column("reserved", right=True, leaves=1),
    _STEP,
    Column("largest batch", right=True),
)
_PARTS = 8  # of a model that are named
_DOMINATES = 0.5  # a part with this share of what its parent holds is named in the parent's place

# A new column goes to the end, so that those who read columns by position are not surprised.
FIELDS: tuple[Field[tuple[ModelProfile, Record]], ...] = (
    Field(
        "strategy",
        lambda run: run[1].case.strategy,
        "`as-is` or the strategy that its attention blocks were patched with.",
    ),
    Field(
        "exact",
        lambda run: run[1].case.parsed.exact,
        "Whether the patched model computes the same function, to rounding.",
    ),
    Field("target", lambda run: _workload(run[1]).target, "The model, as it was named on the command line."),
    Field("batch", lambda run: run[1].case.workload.batch, "Images in the input, B."),
    Field("inputs", lambda run: _workload(run[1]).inputs, "Shape of each input without the batch."),
    Field(
        "mode",
        lambda run: run[1].case.workload.mode,
        "`forward` or `train` (forward, backward and the optimizer's step).",
    ),
    Field("dtype", lambda run: run[1].case.workload.dtype, "The model's dtype."),
    Field("optimizer", lambda run: _workload(run[1]).optimizer or None, "The optimizer; empty in forward."),
    Field("amp", lambda run: _workload(run[1]).amp, "Whether forward ran in autocast."),
    Field("checkpointing", lambda run: _workload(run[1]).checkpointing, "Whether gradient checkpointing was on."),
    Field("channels_last", lambda run: _workload(run[1]).channels_last, "Whether maps were in channels_last."),
    Field("source", lambda run: run[1].source.value, "`measured` on a device of this machine, or `emulated`."),
    Field("device", lambda run: run[1].environment.device_name, "The device's name."),
    Field("gpu", lambda run: run[1].card, "The emulated card as `--gpu` spells it; empty if measured."),
    Field(
        "outcome",
        lambda run: run[1].outcome.value,
        "`completed`, `out_of_memory`, `unsupported`, `timed_out` or `crashed`.",
    ),
    Field(
        "peak_allocated_bytes",
        lambda run: run[1].measurement.memory.peak_allocated_bytes if run[1].measurement.memory else None,
        "Highest number of bytes allocated, over two steps.",
    ),
    Field(
        "peak_reserved_bytes",
        lambda run: run[1].measurement.memory.peak_reserved_bytes if run[1].measurement.memory else None,
        "CUDA: highest number of bytes in the caching allocator's segments.",
    ),
    Field(
        "need_bytes",
        lambda run: run[0].needs.get(run[1].case.strategy),
        "What a strategy that ran out of memory needs, measured on the same card with unlimited memory.",
    ),
    Field(
        "latency_median_seconds",
        lambda run: run[1].measurement.latency.median_seconds if run[1].measurement.latency else None,
        "Median time of a step.",
    ),
    Field(
        "latency_iqr_seconds",
        lambda run: run[1].measurement.latency.iqr_seconds if run[1].measurement.latency else None,
        "Interquartile range of the step times.",
    ),
    Field("largest_batch", lambda run: _of_search(run[0], run[1], "largest_ok"), "The largest batch that ran."),
    Field(
        "smallest_oom_batch",
        lambda run: _of_search(run[0], run[1], "smallest_oom"),
        "The smallest batch that ran out of memory.",
    ),
    Field(
        "peak_phase",
        lambda run: _of_peak(run[1], "phase"),
        "The phase of the peak: `forward`, `backward` or `optimizer step`.",
    ),
    Field(
        "peak_module",
        lambda run: _of_peak(run[1], "module"),
        "The module in which the peak was, by its path in the model.",
    ),
    Field("peak_operation", lambda run: _of_peak(run[1], "operation"), "The operation that ran at the peak."),
    Field("held", lambda run: _of_peak(run[1], "held"), "Bytes held at the peak, by kind."),
    Field(
        "modules",
        lambda run: _of_peak(run[1], "modules"),
        "Bytes of activations and their gradients at the peak, by the module that made them.",
    ),
    Field("total_memory_bytes", lambda run: run[1].environment.total_memory_bytes, "The device's total memory."),
    Field(
        "patched",
        lambda run: ", ".join(run[1].measurement.patched) or None,
        "Paths of the blocks that the strategy computes.",
    ),
    Field("reason", lambda run: run[1].reason or None, "One line on why there are no numbers."),
    Field("notes", lambda run: "; ".join(run[1].measurement.notes) or None, "Warnings, and why a figure is missing."),
)


def model_page(profiles: Sequence[ModelProfile]) -> Page:
    """Make the page of these profiles: for each its costs, what is held at the peak, and what patching saves."""
    sections: list[Section] = []
    for profile in profiles:
        sections += [(grid,) for grid in _grids(profile)]
        sections.append((*paragraphs(Kind.REMARK, _remarks(profile)), *paragraphs(Kind.VERDICT, _verdicts(profile))))
    sections.append(paragraphs(Kind.LEGEND, _legends(profiles)))
    runs = ((profile, record) for profile in profiles for record in profile.records)
    return Page(tuple(sections), names_of(FIELDS), rows_of(FIELDS, runs))


def _legends(profiles: Sequence[ModelProfile]) -> list[str]:
    return [_LEGEND, *([_TRAINING] if any(profile.workload.mode == "train" for profile in profiles) else [])]


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
    timed = profile.as_is.source is Source.MEASURED
    shown = [place for place, column in enumerate(_COLUMNS) if timed or column is not _STEP]
    rows = (_row(record, profile) for record in profile.records)
    picked = (Row(tuple(row.cells[place] for place in shown), failed=row.failed) for row in rows)
    yield Grid(title, tuple(_COLUMNS[place] for place in shown), tuple(picked))
    located = [record for record in profile.records if record.measurement.peak]
    if located:
        yield _held_grid(located)


def _row(record: Record, profile: ModelProfile) -> Row:
    batch = _batch_text(profile.largest_batches.get(record.case.strategy))
    if record.outcome is not Outcome.COMPLETED:
        need = profile.needs.get(record.case.strategy)
        words = outcome_text(record.outcome) + (f", needs {format_bytes(need)}" if need else "")
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
    """Make the table of what is held at each strategy's peak: by kind, and activations by module."""
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
        rows.append(Row(("made in module", *("" for _ in peaks))))
        rows += [Row((f"  {part}", *(_size(within(peak.modules, part)) for peak in peaks))) for part in parts[:_PARTS]]
        rest = [sum(within(peak.modules, part) for part in parts[_PARTS:]) for peak in peaks]
        if any(rest):
            rows.append(Row(("  other modules", *map(_size, rest))))
    return Grid("Memory held at the peak", columns, tuple(rows))


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
        yield f"Blocks patched by {', '.join(names)}: {shown}{more}"
    yield from failure_remarks(profile.records)
    yield from note_remarks(profile.records)
    if profile.not_searched:
        yield f"Largest batch not searched: {profile.not_searched}"
    reasons = {t.reason for t in profile.largest_batches.values() if not t.closed and t.reason}
    yield from (f"Search of the largest batch ended early: {reason}" for reason in sorted(reasons))


def _verdicts(profile: ModelProfile) -> Iterator[str]:
    """Yield what patching would save, for each strategy that ran."""
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


def rolled_up(held: Sequence[Mapping[str, int]]) -> list[str]:
    """Return paths that cover all modules of all these, each once, those that hold the most first.

    A path is the model's own child, or further in where one part has most of what its parent holds.
    """
    totals: Counter[str] = Counter()
    for modules in held:
        totals.update(modules)
    parts: list[str] = []
    todo = list(_children(totals, ""))
    while todo:
        part = todo.pop()
        whole = within(totals, part)
        children = _children(totals, part)
        largest = max((within(totals, child) for child in children), default=0)
        if children and largest > _DOMINATES * whole and part not in totals:
            todo += children
        else:
            parts.append(part)
    return sorted(parts, key=lambda part: (-within(totals, part), part))


def within(modules: Mapping[str, int], part: str) -> int:
    """Return the bytes that a part and the modules in it hold."""
    return sum(size for path, size in modules.items() if path == part or path.startswith(f"{part}."))


def _children(modules: Mapping[str, int], part: str) -> list[str]:
    inside = f"{part}." if part else ""
    names = (path[len(inside) :].partition(".")[0] for path in modules if path.startswith(inside) and path != part)
    return [inside + name for name in dict.fromkeys(names)]
