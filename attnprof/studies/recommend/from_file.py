"""A recommendation from earlier records; nothing is run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from attnprof.cases.axis import Axis, Threshold
from attnprof.cases.capacity import Capacity, fits, memory_limit_bytes
from attnprof.cases.case import Case
from attnprof.cases.measurement import Outcome, Source
from attnprof.cases.record import Record
from attnprof.cases.record_lines import read_records
from attnprof.cases.workload import Workload
from attnprof.errors import AttnprofError
from attnprof.studies.recommend.capacity import capacity_with_margin
from attnprof.studies.recommend.ranking import rank
from attnprof.studies.recommend.recommendation import Recommendation, axes, fitting_approximations
from attnprof.studies.study import RecommendStudy
from attnprof.units import format_bytes

_NAMED = 3  # workloads that an error names, if the file has many


def recommend_from_file(study: RecommendStudy, path: Path) -> Recommendation:
    """Answer from the newest record of each candidate in a file.

    Raises:
        AttnprofError: the file cannot be read, has no record of the workload, or has records of it from several
            devices; or they come from a device without a fixed memory size and no budget is given.
    """
    everything = read_records(path)
    plan, workload = study.plan, study.plan.cases[0].workload
    mine = _of_device(everything, study, workload, path)
    wanted = set(plan.cases) if study.named_strategies else {r.case for r in mine if r.case.workload == workload}
    records = list({r.case: r for r in mine if r.case in wanted}.values())
    if not records:
        raise AttnprofError(
            f"{path} has no record of {workload}{_known(everything)}: sweep it first, or leave out --from"
        )
    capacity = capacity_with_margin(_total_bytes(records, study, path), study.margin)
    ranking = rank(records, capacity, allow_approximate=study.allow_approximate)
    if ranking.pick is None:
        return Recommendation(ranking, records[0], path, nearest=tuple(fitting_approximations(ranking)))
    largest_map, largest_batch = (
        _largest_seen(mine, axis, ranking.pick.strategy, capacity) for axis in axes(workload, step=1)
    )
    return Recommendation(ranking, records[0], path, largest_map, largest_batch)


def _total_bytes(records: Sequence[Record], study: RecommendStudy, path: Path) -> int:
    """Return the memory to answer for: the budget asked for, else what the records were measured within.

    Raises:
        AttnprofError: there is neither, or the budget is larger than what the records can answer for.
    """
    asked_bytes, own_bytes = study.settings.budget_bytes, _recorded_within_bytes(records[0])
    some_failed = any(record.outcome is Outcome.OUT_OF_MEMORY for record in records)
    if some_failed and asked_bytes and own_bytes and asked_bytes > own_bytes:
        raise AttnprofError(
            f"{path} was recorded within {format_bytes(own_bytes)}, and what was out of memory there may fit in "
            f"{format_bytes(asked_bytes)}: ask without --from, or for less"
        )
    total_bytes = asked_bytes or own_bytes
    if total_bytes is None:
        raise AttnprofError(f"the records in {path} come from a CPU, whose memory is not fixed; pass --budget 12GB")
    return total_bytes


def _recorded_within_bytes(record: Record) -> int | None:
    return memory_limit_bytes(record.settings.get("budget_bytes"), record.environment.total_memory_bytes)


def _of_device(records: Sequence[Record], study: RecommendStudy, workload: Workload, path: Path) -> list[Record]:
    """Return the records of the device that was asked for, else of the only one that has the workload."""
    if study.cards:
        return [record for record in records if record.card == str(study.cards[0])]
    asked = study.settings.device
    if asked != "auto":
        measured = [record for record in records if record.source is Source.MEASURED]
        return [record for record in measured if record.environment.device.startswith(asked)]
    devices = list(dict.fromkeys(_device(record) for record in records if record.case.workload == workload))
    if len(devices) > 1:
        names = " or ".join(f"--gpu {card}" if card else f"--device {device}" for card, device in devices)
        raise AttnprofError(f"{path} has {workload} of several devices: choose one with {names}")
    return [record for record in records if _device(record) in devices]


def _device(record: Record) -> tuple[str | None, str]:
    return record.card, record.environment.device


def _known(records: Iterable[Record]) -> str:
    found = list(dict.fromkeys(f"{r.case.workload} on {r.card or r.environment.device}" for r in records))
    if not found:
        return ""
    return f" (it has {', '.join(found[:_NAMED])}{' and others' if len(found) > _NAMED else ''})"


def _largest_seen(records: Iterable[Record], axis: Axis, strategy: str, capacity: Capacity) -> Threshold | None:
    """Return the largest recorded size that fits; the file does not tell about larger ones."""
    sizes = {}
    for record in records:
        size = record.case.workload.height if axis.vary == "hw" else record.case.workload.batch
        if record.case == Case(axis.workload(size), strategy) and fits(record, capacity):
            sizes[size] = record
    if not sizes:
        return None
    largest = max(sizes)
    memory = sizes[largest].measurement.memory
    return Threshold(
        axis=axis,
        strategy=strategy,
        largest_ok=largest,
        smallest_failed=None,
        failure=None,
        reason="",
        peak_bytes=memory.peak_allocated_bytes if memory else None,
        exponent=None,
        probes=0,
        record=sizes[largest],
    )
