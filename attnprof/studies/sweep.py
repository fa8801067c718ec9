"""A sweep: the plan's cases on each device, each result a record on disk before that device's next begins."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone

from attnprof.cases.case import Case
from attnprof.cases.measurement import Measurement, Outcome, Result, Source
from attnprof.cases.plan import Plan, estimated_seconds
from attnprof.cases.record import Record
from attnprof.cases.record_file import RecordFile
from attnprof.cases.settings import Settings
from attnprof.measure.runner import Runner
from attnprof.studies.listener import CaseListener
from attnprof.studies.side_by_side import side_by_side

_EMULATED_SECONDS = 0.05  # of a case: the mean of a sweep up to 256x256 on two cores


def run_plan(
    plan: Plan, settings: Settings, runners: Sequence[Runner], file: RecordFile, listener: CaseListener
) -> Iterator[Record]:
    """Yield the record of each case on each runner's device, as they come, those found in `file` first.

    Raises:
        AttnprofError: a device is not here, the file is from another environment or other settings, or
            cannot be written.
    """
    yield from side_by_side(runners, lambda runner: _on_device(plan, settings, runner, file, listener))


def in_order(records: Iterable[Record], plan: Plan, cards: Sequence[str]) -> list[Record]:
    """Each card's, in the order of the plan."""
    places = {case: place for place, case in enumerate(plan.cases)}
    ranks = {card: rank for rank, card in enumerate(cards)}
    return sorted(records, key=lambda r: (ranks.get(r.card or "", 0), places[r.case]))


def _on_device(
    plan: Plan, settings: Settings, runner: Runner, file: RecordFile, listener: CaseListener
) -> Iterator[Record]:
    card = open_for(runner, settings, file)
    emulated = runner.source is Source.EMULATED
    wanted = set(plan.cases)
    known = {record.case: record for record in tuple(file.records) if record.case in wanted and record.card == card}
    yield from known.values()
    missing = [case for case in plan.cases if case not in known]
    rates = {} if emulated else {dtype: runner.matmul_flops_per_second(dtype) for dtype in _dtypes(missing)}
    estimates = {case: _estimate(case, rates.get(case.workload.dtype), settings) for case in missing}
    listener.planned(len(known), estimates, card)
    out_of_memory = [r.case for r in known.values() if r.outcome is Outcome.OUT_OF_MEMORY and not r.implied_by]
    for case in missing:
        # Emulated, a refusal costs nothing: each has its own.
        smaller = next((other for other in out_of_memory if other.implies_out_of_memory(case) and not emulated), None)
        if case.unsupported_reason:
            result = Result(Outcome.UNSUPPORTED, case.unsupported_reason, Measurement())
        elif smaller:
            result = Result(Outcome.OUT_OF_MEMORY, f"implied by {smaller.workload}", Measurement())
        else:
            listener.started(case, card)
            result = _with_rate(runner.measure(case, listener.entered), rates.get(case.workload.dtype))
            if result.outcome is Outcome.OUT_OF_MEMORY:
                out_of_memory.append(case)
        record = recorded(case, result, runner, settings, implied_by=str(smaller.workload) if smaller else "")
        file.append(record)
        listener.ended(record)
        yield record


def open_for(runner: Runner, settings: Settings, file: RecordFile) -> str | None:
    """Open its device, and refuse a file of another; the card, if it is an emulated one."""
    runner.open()
    card = runner.environment.gpu if runner.source is Source.EMULATED else None
    file.require_same(runner.environment, settings.to_json(), card=card)
    return card


def recorded(case: Case, result: Result, runner: Runner, settings: Settings, *, implied_by: str = "") -> Record:
    """A result with where and how it came to be, now."""
    return Record(
        case=case,
        outcome=result.outcome,
        reason=result.reason,
        implied_by=implied_by,
        measurement=result.measurement,
        environment=runner.environment,
        settings=settings.to_json(),
        time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        source=runner.source,
    )


def _estimate(case: Case, rate: float | None, settings: Settings) -> float:
    return _EMULATED_SECONDS if rate is None else estimated_seconds(case, rate, settings.case_seconds)


def _with_rate(result: Result, rate: float | None) -> Result:
    measurement = dataclasses.replace(result.measurement, matmul_flops_per_second=rate)
    return dataclasses.replace(result, measurement=measurement)


def _dtypes(cases: list[Case]) -> list[str]:
    return list(dict.fromkeys(case.workload.dtype for case in cases))
