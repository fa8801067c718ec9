"""`attnprof limits`: the threshold of each strategy on each device, by real runs, each a record on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from attnprof.measure.runner import Runner
from attnprof.pipeline import open_for, recorded, side_by_side
from attnprof.plan import Case, estimated_seconds
from attnprof.record import Record, RecordFile, Source
from attnprof.settings import Settings
from attnprof.thresholds import Axis, Threshold, find_threshold
from attnprof.units import format_duration


class Listener(Protocol):
    """Told what happens, to show it; from several threads where several cards are emulated."""

    def probing(self, case: Case, card: str | None) -> None:
        """A case is about to run."""

    def found(self, threshold: Threshold) -> None:
        """A search is over."""


def run_limits(
    axes: Sequence[Axis],
    strategies: Sequence[str],
    settings: Settings,
    runners: Sequence[Runner],
    file: RecordFile,
    listener: Listener,
) -> Iterator[Threshold]:
    """Yield the threshold of each strategy on each axis and device, as they come.

    Probes that stand in `file` already are not run again.

    Raises:
        AttnprofError: a device is not here, the file is from another environment or other settings, or
            cannot be written.
    """
    yield from side_by_side(runners, lambda runner: _on_device(axes, strategies, settings, runner, file, listener))


def _on_device(
    axes: Sequence[Axis],
    strategies: Sequence[str],
    settings: Settings,
    runner: Runner,
    file: RecordFile,
    listener: Listener,
) -> Iterator[Threshold]:
    card = open_for(runner, settings, file)
    known = {record.case: record for record in tuple(file.records) if record.card == card}
    capacity = _capacity_bytes(runner, settings)

    def probe(case: Case) -> Record:
        if case not in known:
            listener.probing(case, card)
            known[case] = recorded(case, runner.measure(case), runner, settings)
            file.append(known[case])
        return known[case]

    def untried(case: Case) -> str:
        if case.unsupported_reason:
            return case.unsupported_reason
        if case in known or runner.source is Source.EMULATED:
            return ""
        seconds = estimated_seconds(case, runner.matmul_flops_per_second(case.workload.dtype), 0.0)
        if seconds <= settings.timeout_seconds:
            return ""
        return f"{case.workload} would take about {format_duration(seconds)} (--timeout)"

    for axis in axes:
        for strategy in strategies:
            threshold = find_threshold(axis, strategy, capacity, probe, untried)
            listener.found(threshold)
            yield threshold


def _capacity_bytes(runner: Runner, settings: Settings) -> int:
    """What a case may take of the device, as near as it is known before."""
    found = runner.environment
    total = found.get("total_memory_bytes")
    budget = min(size for size in (settings.budget_bytes, total) if size is not None)
    return max(1, budget - int(found.get("context_bytes", 0)))
