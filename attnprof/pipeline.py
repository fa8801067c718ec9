"""A sweep: the plan's cases on each device, each result a record on disk before that device's next begins."""

from __future__ import annotations

import dataclasses
import os
import queue
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import Protocol, TypeVar

from attnprof.measure.runner import Runner
from attnprof.plan import Case, Plan, estimated_seconds
from attnprof.record import Measurement, Outcome, Record, RecordFile, Result, Source
from attnprof.settings import Settings

T = TypeVar("T")

_EMULATED_SECONDS = 0.05  # of a case: the mean of a sweep up to 256x256 on two cores


class Listener(Protocol):
    """Told what happens, to show it; from several threads where several cards are emulated."""

    def planned(self, done: int, estimates: Mapping[Case, float], card: str | None) -> None:
        """A device is open; `done` of its cases stand in the file already; seconds for each of the others."""

    def started(self, case: Case, card: str | None) -> None:
        """A case is about to run, on an emulated card if one is named."""

    def entered(self, phase: str) -> None:
        """A pass of the running case begins."""

    def ended(self, record: Record) -> None:
        """A case has its record, and that is on disk."""


def run_plan(
    plan: Plan, settings: Settings, runners: Sequence[Runner], file: RecordFile, listener: Listener
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
    plan: Plan, settings: Settings, runner: Runner, file: RecordFile, listener: Listener
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


def side_by_side(runners: Sequence[Runner], serve: Callable[[Runner], Iterator[T]]) -> Iterator[T]:
    """What `serve` yields for each runner, as it comes; the first error ends them all.

    Emulated cards take no time of their own, so several are served at once, one to a core. A device that
    is measured is to be the only runner.
    """
    if len(runners) == 1:
        yield from serve(runners[0])
        return
    arrivals: queue.SimpleQueue[T | BaseException | None] = queue.SimpleQueue()

    def drain(runner: Runner) -> None:
        try:
            with runner:  # its process ends with its cases
                for record in serve(runner):
                    arrivals.put(record)
            arrivals.put(None)
        except BaseException as error:  # raised again where the records go
            arrivals.put(error)

    with ThreadPoolExecutor(min(len(runners), _cores())) as pool:
        try:
            for runner in runners:
                pool.submit(drain, runner)
            running = len(runners)
            while running:
                arrival = arrivals.get()
                if isinstance(arrival, BaseException):
                    raise arrival
                if arrival is None:
                    running -= 1
                else:
                    yield arrival
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for runner in runners:
                runner.stop()


def open_for(runner: Runner, settings: Settings, file: RecordFile) -> str | None:
    """Open its device, and refuse a file of another; the card, if it is an emulated one."""
    runner.open()
    card = runner.environment["gpu"] if runner.source is Source.EMULATED else None
    file.require_same("environment", runner.environment, card)
    file.require_same("settings", settings.to_json(), card)
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


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
