"""A recommendation from what was recorded before; nothing is run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from attnprof.cases.axis import Axis, Threshold
from attnprof.cases.capacity import Capacity, fits
from attnprof.cases.case import Case
from attnprof.cases.measurement import Outcome, Source
from attnprof.cases.plan import Plan
from attnprof.cases.record import Record
from attnprof.cases.record_file import read_records
from attnprof.cases.workload import Workload
from attnprof.errors import AttnprofError
from attnprof.studies.recommend.answer import Recommendation, axes, fitting_approximations
from attnprof.studies.recommend.ranking import rank
from attnprof.studies.requests import RecommendRequest
from attnprof.units import format_bytes

_NAMED = 3  # workloads, of many


def recommend_from_file(request: RecommendRequest, plan: Plan, path: Path) -> Recommendation:
    """From the newest records of the plan's cases.

    Raises:
        AttnprofError: the file cannot be read, has no record of the workload, or has it of several devices;
            or the device is one without a fixed memory and no budget is given.
    """
    try:
        everything = read_records(path)
    except OSError as error:
        raise AttnprofError(f"cannot read {path}: {error.strerror}") from None
    workload = plan.cases[0].workload
    mine = _of_device(everything, request, workload, path)
    wanted = set(plan.cases) if request.names_strategies else {r.case for r in mine if r.case.workload == workload}
    records = list({r.case: r for r in mine if r.case in wanted}.values())
    if not records:
        raise AttnprofError(
            f"{path} has no record of {workload}{_known(everything)}: sweep it first, or leave out --from"
        )
    asked, own = request.settings().budget_bytes, _capacity_bytes(records[0])
    if asked and own and asked > own and any(record.outcome is Outcome.OUT_OF_MEMORY for record in records):
        raise AttnprofError(
            f"{path} was recorded within {format_bytes(own)}, and what was out of memory there may fit in "
            f"{format_bytes(asked)}: ask without --from, or for less"
        )
    total = asked or own
    if total is None:
        raise AttnprofError(f"{path} is of a device without a memory of its own: say how much with --budget 12GB")
    ranking = rank(records, request.capacity(total), allow_approximate=request.allow_approximate)
    if ranking.pick is None:
        return Recommendation(ranking, records[0], path, nearest=tuple(fitting_approximations(ranking)))
    largest_map, largest_batch = (
        _largest_seen(mine, axis, ranking.pick.strategy, ranking.capacity) for axis in axes(workload, step=1)
    )
    return Recommendation(ranking, records[0], path, largest_map, largest_batch)


def _capacity_bytes(record: Record) -> int | None:
    sizes = (record.settings.get("budget_bytes"), record.environment.total_memory_bytes)
    return min((size for size in sizes if size is not None), default=None)


def _of_device(records: Sequence[Record], request: RecommendRequest, workload: Workload, path: Path) -> list[Record]:
    """Those of the device that was asked for, or of the only one that has the workload."""
    cards = [str(card) for card in request.cards()]
    if cards:
        return [record for record in records if record.card == cards[0]]
    if request.device != "auto":
        measured = [record for record in records if record.source is Source.MEASURED]
        return [record for record in measured if _device(record)[1].startswith(request.device)]
    devices = list(dict.fromkeys(_device(record) for record in records if record.case.workload == workload))
    if len(devices) > 1:
        names = " or ".join(f"--gpu {card}" if card else f"--device {device}" for card, device in devices)
        raise AttnprofError(f"{path} has {workload} of several devices: say {names}")
    return [record for record in records if _device(record) in devices]


def _device(record: Record) -> tuple[str | None, str]:
    return record.card, record.environment.device


def _known(records: Iterable[Record]) -> str:
    found = list(dict.fromkeys(f"{r.case.workload} on {r.card or r.environment.device}" for r in records))
    if not found:
        return ""
    return f" (it has {', '.join(found[:_NAMED])}{' and others' if len(found) > _NAMED else ''})"


def _largest_seen(records: Iterable[Record], axis: Axis, strategy: str, capacity: Capacity) -> Threshold | None:
    """The largest recorded size that fits; of larger ones nothing is known."""
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
        axis=axis, strategy=strategy, largest_ok=largest, smallest_failed=None, failure=None, reason="",
        peak_bytes=memory.peak_allocated_bytes if memory else None, exponent=None, probes=0, record=sizes[largest],
    )  # fmt: skip
