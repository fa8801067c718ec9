"""What a set of records says: groups by workload, the best of each, and what to pick."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from attnprof.plan import Workload
from attnprof.record import Outcome, Record
from attnprof.units import format_bytes

_CLOSE = 1.1  # latencies within this factor count as equal; memory then decides


@dataclass(frozen=True)
class Group:
    """The records of one workload on one device, in the order in which they were planned."""

    workload: Workload
    device: str
    source: str
    records: tuple[Record, ...]

    @property
    def fastest(self) -> Record | None:
        """Of the exact strategies that were measured."""
        return min(self._exact(), key=_seconds, default=None)

    @property
    def smallest(self) -> Record | None:
        """Of the exact strategies that were measured."""
        return min(self._exact(), key=_peak, default=None)

    @property
    def pick(self) -> Record | None:
        """The smallest of the exact strategies that are about as fast as the fastest."""
        fastest = self.fastest
        close = [r for r in self._exact() if fastest and _seconds(r) <= _seconds(fastest) * _CLOSE]
        return min(close, key=_peak, default=None)

    @property
    def naive(self) -> Record | None:
        return next((r for r in self.records if r.case.strategy == "naive"), None)

    def _exact(self) -> list[Record]:
        return [r for r in self.records if r.outcome is Outcome.COMPLETED and r.case.parsed.exact]


def group(records: Iterable[Record]) -> list[Group]:
    """By workload, device and source, in order of first appearance."""
    groups: dict[tuple[Workload, str, str], list[Record]] = {}
    for record in records:
        key = (record.case.workload, str(record.environment.get("device_name", "-")), record.source.value)
        groups.setdefault(key, []).append(record)
    return [Group(*key, tuple(members)) for key, members in groups.items()]


def pick_line(groups: Sequence[Group]) -> str:
    """One sentence on what to use, from the largest workload where an exact strategy ran."""
    for one in sorted(groups, key=lambda g: g.workload.flops, reverse=True):
        pick = one.pick
        if pick is not None:
            return f"Pick {pick.case.strategy}: {_against_naive(pick, one.naive)} at {one.workload}."
    return "No exact strategy ran: try smaller maps (--hw) or a smaller batch (--batch)."


def kernel_lines(records: Iterable[Record]) -> list[str]:
    """Which SDPA kernel each strategy got and why not a better one, each different answer once."""
    lines: dict[str, None] = {}
    for record in records:
        kernel = record.measurement.kernel
        if kernel and kernel.refused:
            reasons = "; ".join(f"no {name}: {why}" for name, why in kernel.refused.items())
            lines[f"{record.case.strategy}: {kernel.name} ({reasons})"] = None
    return list(lines)


def failure_lines(records: Iterable[Record]) -> list[str]:
    """Why a case has no numbers, where that is not for want of memory; each reason once."""
    told = {
        f"{record.case.strategy}: {record.outcome.value.replace('_', ' ')} ({record.reason})": None
        for record in records
        if record.outcome not in (Outcome.COMPLETED, Outcome.OUT_OF_MEMORY)
    }
    return list(told)


def note_lines(records: Iterable[Record]) -> list[str]:
    """Each note once, without the figures that differ from case to case, and how often it stands."""
    counts = Counter(re.sub(r"\d+%", "much", note) for record in records for note in record.measurement.notes)
    return [f"? {note} ({count} {'case' if count == 1 else 'cases'})" for note, count in counts.items()]


def _against_naive(pick: Record, naive: Record | None) -> str:
    memory = pick.measurement.memory
    assert memory is not None
    peak = f"peak {format_bytes(memory.peak_allocated_bytes)}"
    if naive is None or naive is pick:
        return peak
    if naive.outcome is not Outcome.COMPLETED or naive.measurement.memory is None:
        return f"{peak} where naive is {naive.outcome.value.replace('_', ' ')}"
    faster = _seconds(naive) / _seconds(pick)
    smaller = naive.measurement.memory.step_bytes / max(1, memory.step_bytes)
    speed = f"{faster:.1f}x faster" if faster >= 1 else f"{1 / faster:.1f}x slower"
    size = f"{smaller:.1f}x less" if smaller >= 1 else f"{1 / smaller:.1f}x more"
    return f"{speed} than naive, {size} step memory"


def _seconds(record: Record) -> float:
    latency = record.measurement.latency
    return latency.median_seconds if latency else float("inf")


def _peak(record: Record) -> int:
    memory = record.measurement.memory
    assert memory is not None
    return memory.peak_allocated_bytes
