"""Records grouped by workload and device, and the best of each group."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from attnprof.cases.measurement import Outcome, Source
from attnprof.cases.record import Record
from attnprof.cases.workload import Workload

_CLOSE = 1.1  # latencies within this factor count as equal; memory then decides


@dataclass(frozen=True)
class Group:
    """The records of one workload on one device, in the order in which they were planned.

    Attributes:
        device: its name; an emulated card's as `--gpu` spells it.
    """

    workload: Workload
    device: str
    source: Source
    records: tuple[Record, ...]

    @property
    def fastest(self) -> Record | None:
        """Of the exact strategies whose latency is known."""
        return min(filter(has_latency, self._exact()), key=median_seconds, default=None)

    @property
    def smallest(self) -> Record | None:
        """Of the exact strategies that ran."""
        return min(self._exact(), key=peak_bytes, default=None)

    @property
    def pick(self) -> Record | None:
        """The smallest of the exact strategies; where latency is known, of those about as fast as the fastest."""
        fastest = self.fastest
        if fastest is None:
            return self.smallest
        return min(
            (r for r in self._exact() if median_seconds(r) <= median_seconds(fastest) * _CLOSE),
            key=peak_bytes,
            default=None,
        )

    @property
    def naive(self) -> Record | None:
        return next((r for r in self.records if r.case.strategy == "naive"), None)

    def _exact(self) -> list[Record]:
        return [r for r in self.records if r.outcome is Outcome.COMPLETED and r.case.parsed.exact]


def group(records: Iterable[Record]) -> list[Group]:
    """By workload, device and source, in order of first appearance."""
    groups: dict[tuple[Workload, str, Source], list[Record]] = {}
    for record in records:
        device = record.card or record.environment.device_name
        key = (record.case.workload, device, record.source)
        groups.setdefault(key, []).append(record)
    return [Group(*key, tuple(members)) for key, members in groups.items()]


def has_latency(record: Record) -> bool:
    return record.measurement.latency is not None


def median_seconds(record: Record) -> float:
    assert record.measurement.latency is not None
    return record.measurement.latency.median_seconds


def peak_bytes(record: Record) -> int:
    memory = record.measurement.memory
    assert memory is not None
    return memory.peak_allocated_bytes
