"""A sweep: the plan's cases through a runner, each result a record on disk before the next begins."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Protocol

from attnprof.measure.runner import Runner
from attnprof.plan import Case, Plan, estimated_seconds
from attnprof.record import Measurement, Outcome, Record, RecordFile, Result
from attnprof.settings import Settings


class Listener(Protocol):
    """Told what happens, to show it."""

    def planned(self, plan: Plan, done: int, estimates: dict[Case, float]) -> None:
        """The device is open; `done` cases stand in the file already; seconds for each of the others."""

    def started(self, case: Case) -> None:
        """A case is about to run."""

    def entered(self, phase: str) -> None:
        """A pass of the running case begins."""

    def ended(self, record: Record) -> None:
        """A case has its record, and that is on disk."""


def run_plan(plan: Plan, settings: Settings, runner: Runner, file: RecordFile, listener: Listener) -> Iterator[Record]:
    """Yield the record of each case, those found in `file` first.

    Raises:
        AttnprofError: the device is not here, the file is from another environment or other
            settings, or cannot be written.
    """
    runner.open()
    file.require_same("environment", runner.environment)
    file.require_same("settings", settings.to_json())
    wanted = set(plan.cases)
    known = {record.case: record for record in file.records if record.case in wanted}
    yield from known.values()
    missing = [case for case in plan.cases if case not in known]
    rates = {dtype: runner.matmul_flops_per_second(dtype) for dtype in _dtypes(missing)}
    listener.planned(
        plan,
        len(known),
        {case: estimated_seconds(case, rates[case.workload.dtype], settings.case_seconds) for case in missing},
    )
    out_of_memory = [r.case for r in known.values() if r.outcome is Outcome.OUT_OF_MEMORY and not r.implied_by]
    for case in missing:
        smaller = next((other for other in out_of_memory if other.implies_out_of_memory(case)), None)
        if case.unsupported_reason:
            result = Result(Outcome.UNSUPPORTED, case.unsupported_reason, Measurement())
        elif smaller:
            result = Result(Outcome.OUT_OF_MEMORY, f"implied by {smaller.workload}", Measurement())
        else:
            listener.started(case)
            result = _measured(runner, case, rates[case.workload.dtype], listener.entered)
            if result.outcome is Outcome.OUT_OF_MEMORY:
                out_of_memory.append(case)
        record = Record(
            case=case,
            outcome=result.outcome,
            reason=result.reason,
            implied_by=str(smaller.workload) if smaller else "",
            measurement=result.measurement,
            environment=runner.environment,
            settings=settings.to_json(),
            time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )
        file.append(record)
        listener.ended(record)
        yield record


def _measured(runner: Runner, case: Case, rate: float, enter: Callable[[str], None]) -> Result:
    result = runner.measure(case, enter)
    measurement = dataclasses.replace(result.measurement, matmul_flops_per_second=rate)
    return dataclasses.replace(result, measurement=measurement)


def _dtypes(cases: list[Case]) -> list[str]:
    return list(dict.fromkeys(case.workload.dtype for case in cases))
