"""A sweep: every case of a plan on each device. Each result is on disk before that device's next case begins."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping

from attnprof.cases.case import Case
from attnprof.cases.duration import emulated_seconds, estimated_seconds
from attnprof.cases.measurement import Measurement, Outcome, Result, Source
from attnprof.cases.plan import Plan
from attnprof.cases.record import Record
from attnprof.cases.record_file import RecordFile
from attnprof.cases.settings import Settings
from attnprof.measure.runner import Runner
from attnprof.studies.listener import Listener
from attnprof.studies.study import SweepStudy
from attnprof.studies.study_run import StudyRun, recorded

# Work that takes longer than this is worth a line on how to ask for less.
_LONG_SECONDS = 600.0


class SweepRun(StudyRun[SweepStudy, Record]):
    """A sweep; its results are records, each card's in the order of the plan."""

    @property
    def total_count(self) -> int:
        """The number of cases, on all devices."""
        return len(self.study.plan.cases) * self.study.device_count

    @property
    def done_count(self) -> int:
        """The number of cases that have a record."""
        return len(self.results())

    def results(self) -> list[Record]:
        """Return the records of the plan's cases."""
        places = {case: place for place, case in enumerate(self.study.plan.cases)}
        mine = [record for record in self.records if record.case in places]
        return sorted(mine, key=lambda record: (self.study.card_rank(record.card), places[record.case]))

    def records_so_far(self) -> list[Record]:
        """Return the results: they are records."""
        return self.results()

    def _serve(self, runner: Runner, file: RecordFile, listener: Listener) -> None:
        study = self.study
        for _ in measure_cases(study.plan, study.settings, runner, file, listener, study.retry):
            pass  # the file keeps it


def measure_cases(
    plan: Plan,
    settings: Settings,
    runner: Runner,
    file: RecordFile,
    listener: Listener,
    retry: Collection[Outcome] = (),
) -> Iterator[Record]:
    """Yield the record of each case on a device, which is open: first those in the file, then the others as they come.

    Args:
        plan: the cases.
        settings: of every case.
        runner: of the device.
        file: has the records of before, and gets the new ones.
        listener: learns of every case.
        retry: outcomes in the file that are measured again.

    Raises:
        AttnprofError: the measuring process cannot be started any more, or the file cannot be written.
    """
    card, emulated = runner.card_name, runner.source is Source.EMULATED
    wanted = set(plan.cases)
    known = {case: record for case, record in file.settled(card, retry).items() if case in wanted}
    yield from known.values()
    missing = [case for case in plan.cases if case not in known]
    rates = {} if emulated else {dtype: runner.matmul_flops_per_second(dtype) for dtype in _dtypes(missing)}
    estimates = {case: _estimate(case, rates.get(case.workload.dtype), settings) for case in missing}
    bounded = {case: min(seconds, settings.timeout_seconds) for case, seconds in estimates.items()}
    listener.planned(len(known), bounded, card)
    if sum(bounded.values()) > _LONG_SECONDS:
        listener.tell(_advice(estimates, settings, runner))
    out_of_memory = [r.case for r in known.values() if r.outcome is Outcome.OUT_OF_MEMORY and not r.implied_by]
    for case in missing:
        # On an emulated card a failing case is cheap, so it is run and its failure is not inferred.
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


def _estimate(case: Case, rate: float | None, settings: Settings) -> float:
    if rate is None:
        return emulated_seconds(case, with_latency=settings.estimates)
    return estimated_seconds(case, rate, settings.case_seconds)


def _advice(estimates: Mapping[Case, float], settings: Settings, runner: Runner) -> str:
    """Return how to ask for less, since the work takes long."""
    ended = sum(seconds > settings.timeout_seconds for seconds in estimates.values())
    timeout = f"{settings.timeout_seconds:g} s"
    slow = f"{ended} of these cases are ended by --timeout after {timeout} each; " if ended else ""
    other = ", or name a card with --gpu t4, which computes nothing" if runner.environment.device == "cpu" else ""
    return f"{slow}for less, choose a smaller --hw or --batch, fewer strategies (--strategy){other}"


def _with_rate(result: Result, rate: float | None) -> Result:
    measurement = dataclasses.replace(result.measurement, matmul_flops_per_second=rate)
    return dataclasses.replace(result, measurement=measurement)


def _dtypes(cases: list[Case]) -> list[str]:
    return list(dict.fromkeys(case.workload.dtype for case in cases))
