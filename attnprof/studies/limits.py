"""`attnprof limits`: the threshold of each strategy on each device, by real runs, each a record on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from attnprof.cases.axis import Axis, Threshold
from attnprof.cases.case import Case
from attnprof.cases.measurement import Source
from attnprof.cases.plan import estimated_seconds
from attnprof.cases.record import Record
from attnprof.cases.record_file import RecordFile
from attnprof.cases.settings import Settings
from attnprof.cases.workload import ModelWorkload
from attnprof.errors import AttnprofError
from attnprof.measure.runner import Runner
from attnprof.studies.bracketing import find_threshold
from attnprof.studies.listener import SearchListener
from attnprof.studies.side_by_side import side_by_side
from attnprof.studies.sweep import open_for, recorded
from attnprof.units import format_duration

# Of the time that a case gets: of a probe, where it is a search within another command and time is real.
PROBE_SHARE = 1 / 6


def run_limits(
    axes: Sequence[Axis],
    strategies: Sequence[str],
    settings: Settings,
    runners: Sequence[Runner],
    file: RecordFile,
    listener: SearchListener,
) -> Iterator[Threshold]:
    """Yield the threshold of each strategy on each axis and device, as they come.

    Probes that stand in `file` already are not run again.

    Raises:
        AttnprofError: a device is not here, has no end of its own and no budget is given; the file is from
            another environment or other settings, or cannot be written.
    """
    yield from side_by_side(runners, lambda runner: _on_device(axes, strategies, settings, runner, file, listener))


def _on_device(
    axes: Sequence[Axis],
    strategies: Sequence[str],
    settings: Settings,
    runner: Runner,
    file: RecordFile,
    listener: SearchListener,
) -> Iterator[Threshold]:
    open_for(runner, settings, file)
    search = Searching(runner, settings, listener, file)
    for axis in axes:
        for strategy in strategies:
            yield search.find(axis, strategy)


class Searching:
    """Searches on one device, which is open.

    Raises:
        AttnprofError: on construction: nothing would end a search here.
    """

    def __init__(
        self, runner: Runner, settings: Settings, listener: SearchListener, file: RecordFile | None = None
    ) -> None:
        """Args:
        settings: of every probe.
        file: where probes are kept, and found instead of being run again.
        """
        self._runner, self._settings, self._listener, self._file = runner, settings, listener, file
        self._card = runner.environment.gpu if runner.source is Source.EMULATED else None
        records = tuple(file.records) if file else ()
        self._known = {record.case: record for record in records if record.card == self._card}
        self._capacity_bytes = _capacity_bytes(runner, settings)

    def find(self, axis: Axis, strategy: str, start: int | None = None) -> Threshold:
        """The threshold of a strategy; `start` as in `find_threshold`."""
        threshold = find_threshold(axis, strategy, self._capacity_bytes, self._probe, self._untried, start)
        self._listener.found(threshold)
        return threshold

    def _probe(self, case: Case) -> Record:
        if case not in self._known:
            self._listener.probing(case, self._card)
            result = self._runner.measure(case, settings=self._settings)
            self._known[case] = recorded(case, result, self._runner, self._settings)
            if self._file is not None:
                self._file.append(self._known[case])
        return self._known[case]

    def _untried(self, case: Case) -> str:
        if case.unsupported_reason:
            return case.unsupported_reason
        if case in self._known or self._runner.source is Source.EMULATED:
            return ""
        seconds = self._seconds(case)
        if seconds <= self._settings.timeout_seconds:
            return ""
        return f"{case.workload} would take about {format_duration(seconds)} (--timeout)"

    def _seconds(self, case: Case) -> float:
        """What a probe would take, roughly."""
        if not isinstance(case.workload, ModelWorkload):
            return estimated_seconds(case, self._runner.matmul_flops_per_second(case.workload.dtype), None)
        # Of a model only what it took before is known; each image takes its time.
        likes = [r for known, r in self._known.items() if replace(known.workload, batch=1) ==
                 replace(case.workload, batch=1) and known.strategy == case.strategy]  # fmt: skip
        paces = (sum(r.measurement.passes_seconds.values()) / r.case.workload.batch for r in likes)
        return case.workload.batch * min(paces, default=0.0)


def has_capacity(runner: Runner, settings: Settings) -> bool:
    """Whether anything but time would end a search on this device, which is open."""
    return bool(_sizes(runner, settings))


def _sizes(runner: Runner, settings: Settings) -> list[int]:
    known = (settings.budget_bytes, runner.environment.total_memory_bytes)
    return [size for size in known if size is not None]


def _capacity_bytes(runner: Runner, settings: Settings) -> int:
    """What a case may take of the device, as near as it is known before."""
    sizes = _sizes(runner, settings)
    if not sizes:
        raise AttnprofError("limits: say up to where: --budget 2GB on this machine, or --gpu t4 for an emulated card")
    return max(1, min(sizes) - (runner.environment.context_bytes or 0))
