"""The records of one workload on one device, and the best of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from attnprof.cases.measurement import Outcome, Source
from attnprof.cases.record import Record
from attnprof.cases.workload import Workload
from attnprof.studies.recommend.ranking import pick_record


@dataclass(frozen=True)
class Group:
    """The records of one workload on one device.

    Attributes:
        workload: the workload of every record.
        device: the device's name; an emulated card as `--gpu` spells it.
        source: whether the records were measured or emulated.
        records: one for each strategy, in the order in which they were planned.
    """

    workload: Workload
    device: str
    source: Source
    records: tuple[Record, ...]

    @property
    def fastest(self) -> Record | None:
        """The exact strategy with the lowest median latency; None if no latency is known."""
        return min(filter(has_latency, self._exact()), key=median_seconds, default=None)

    @property
    def smallest(self) -> Record | None:
        """The exact strategy with the lowest peak; None if none ran."""
        return min(self._exact(), key=peak_bytes, default=None)

    @property
    def pick(self) -> Record | None:
        """The exact strategy to use, by the rule of `attnprof.studies.recommend.ranking`; None if none ran."""
        return pick_record(self.records)

    @property
    def naive(self) -> Record | None:
        """The record of the plain form; None if it was not among the strategies."""
        return next((r for r in self.records if r.case.strategy == "naive"), None)

    def _exact(self) -> list[Record]:
        return [r for r in self.records if r.outcome is Outcome.COMPLETED and r.case.parsed.exact]


def group(records: Iterable[Record]) -> list[Group]:
    """Group records by workload, device and source, in order of first appearance."""
    groups: dict[tuple[Workload, str, Source], list[Record]] = {}
    for record in records:
        device = record.card or record.environment.device_name
        key = (record.case.workload, device, record.source)
        groups.setdefault(key, []).append(record)
    return [Group(*key, tuple(members)) for key, members in groups.items()]


def has_latency(record: Record) -> bool:
    """Return whether the latency was measured."""
    return record.measurement.latency is not None


def median_seconds(record: Record) -> float:
    """Return the median latency of a record that has one."""
    assert record.measurement.latency is not None
    return record.measurement.latency.median_seconds


def peak_bytes(record: Record) -> int:
    """Return the peak of allocated memory of a record that has one."""
    memory = record.measurement.memory
    assert memory is not None
    return memory.peak_allocated_bytes
