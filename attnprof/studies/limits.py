"""`attnprof limits`: searches for the largest size that fits, by real runs. Each run is a record on disk."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from attnprof.cases.axis import Axis, Threshold
from attnprof.cases.capacity import memory_limit_bytes
from attnprof.cases.case import Case
from attnprof.cases.duration import estimated_seconds
from attnprof.cases.measurement import Outcome, Source
from attnprof.cases.record import Record
from attnprof.cases.record_file import RecordFile
from attnprof.cases.settings import Settings
from attnprof.cases.workload import ModelWorkload
from attnprof.errors import AttnprofError
from attnprof.measure.runner import Runner
from attnprof.studies.bracketing import find_threshold, threshold_of
from attnprof.studies.devices import RunnerMaker, make_runner
from attnprof.studies.listener import Listener
from attnprof.studies.study import LimitsStudy
from attnprof.studies.study_run import StudyRun, recorded
from attnprof.units import format_duration

# Share of the case timeout that one probe may use, if a real device is searched inside another command.
_PROBE_SHARE = 1 / 6


class LimitsRun(StudyRun[LimitsStudy, Threshold]):
    """The searches of `attnprof limits`; its results are thresholds. Probes that the file has are not run again."""

    unit = "searches"

    def __init__(self, study: LimitsStudy, make_runner: RunnerMaker = make_runner) -> None:
        super().__init__(study, make_runner)
        self._found: list[Threshold] = []
        self._searches: list[LimitSearch] = []

    @property
    def total_count(self) -> int:
        """The number of searches, on all devices."""
        return len(self.study.axes) * len(self.study.strategies) * self.study.device_count

    @property
    def done_count(self) -> int:
        """The number of searches that are over."""
        return len(self._found)

    def results(self) -> list[Threshold]:
        """Return the thresholds that were found, and as far as they came the searches that were interrupted."""
        begun = [threshold for search in self._searches if (threshold := search.so_far()) is not None]
        return sorted([*self._found, *begun], key=lambda t: self.study.card_rank(t.record.card if t.record else None))

    def _serve(self, runner: Runner, file: RecordFile, listener: Listener) -> None:
        search = LimitSearch(runner, self.study.settings, listener, file, self.study.retry)
        self._searches.append(search)
        for axis in self.study.axes:
            for strategy in self.study.strategies:
                self._found.append(search.find(axis, strategy))


class LimitSearch:
    """Searches for thresholds on one device, which is open.

    Args:
        runner: of the device.
        settings: of every probe.
        listener: learns of every probe and every threshold.
        file: keeps the probes; those that it has already are not run again.
        retry: outcomes in the file that are run again.

    Raises:
        AttnprofError: nothing would end a search here: the device has no fixed memory size and there is no budget.
    """

    def __init__(
        self,
        runner: Runner,
        settings: Settings,
        listener: Listener,
        file: RecordFile | None = None,
        retry: Collection[Outcome] = (),
    ) -> None:
        self._runner, self._settings, self._listener, self._file = runner, settings, listener, file
        self._known = file.settled(runner.card_name, retry) if file else {}
        self._capacity_bytes = _capacity_bytes(runner, settings)
        self._running: tuple[Axis, str, dict[int, Record]] | None = None

    def find(self, axis: Axis, strategy: str, start: int | None = None) -> Threshold:
        """Return the threshold of a strategy; `start` as in `find_threshold`."""
        self._running = axis, strategy, {}
        threshold = find_threshold(
            axis, strategy, self._capacity_bytes, self._probe, self._untried, start, self._running[2]
        )
        self._running = None
        self._listener.found(threshold)
        return threshold

    def so_far(self) -> Threshold | None:
        """Return what the running search has found; None if none runs, or it has not probed anything."""
        if self._running is None or not self._running[2]:
            return None
        return threshold_of(*self._running, reason="interrupted before its end")

    def _probe(self, case: Case) -> Record:
        if case not in self._known:
            self._listener.probing(case, self._runner.card_name)
            result = self._runner.measure(case, settings=self._settings)
            self._known[case] = recorded(case, result, self._runner, self._settings)
            if self._file is not None:
                self._file.append(self._known[case])
        return self._known[case]

    def _untried(self, case: Case) -> str:
        """Return why a case is not worth running; "" if it is."""
        if case.unsupported_reason:
            return case.unsupported_reason
        if case in self._known or self._runner.source is Source.EMULATED:
            return ""
        seconds = self._estimated_seconds(case)
        if seconds <= self._settings.timeout_seconds:
            return ""
        return f"{case.workload} would take about {format_duration(seconds)} (--timeout)"

    def _estimated_seconds(self, case: Case) -> float:
        if not isinstance(case.workload, ModelWorkload):
            return estimated_seconds(case, self._runner.matmul_flops_per_second(case.workload.dtype), None)
        # The cost of a model is known only from earlier runs of it; each image of the batch takes its time.
        alike = [
            record
            for known, record in self._known.items()
            if known.strategy == case.strategy and replace(known.workload, batch=1) == replace(case.workload, batch=1)
        ]
        paces = (sum(r.measurement.passes_seconds.values()) / r.case.workload.batch for r in alike)
        return case.workload.batch * min(paces, default=0.0)


def probe_settings(runner: Runner, settings: Settings) -> Settings:
    """Return the settings for a search inside another command.

    A probe measures memory alone. On a real device, where time is real, it may take a share of a case's time.
    """
    share = 1 if runner.source is Source.EMULATED else _PROBE_SHARE
    return replace(settings, memory_only=True, estimates=False, timeout_seconds=share * settings.timeout_seconds)


def has_capacity(runner: Runner, settings: Settings) -> bool:
    """Return whether memory would end a search on this device, which is open."""
    return memory_limit_bytes(settings.budget_bytes, runner.environment.total_memory_bytes) is not None


def _capacity_bytes(runner: Runner, settings: Settings) -> int:
    """Return the memory that a case may take of the device, as near as it is known before."""
    limit_bytes = memory_limit_bytes(settings.budget_bytes, runner.environment.total_memory_bytes)
    if limit_bytes is None:
        raise AttnprofError(
            "limits: a CPU needs an upper bound; pass --budget 2GB, or --gpu t4 to search on an emulated card"
        )
    return max(1, limit_bytes - (runner.environment.context_bytes or 0))
