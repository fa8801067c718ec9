"""What a profile of a model says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from attnprof.record import Record
from attnprof.thresholds import Threshold
from attnprof.workload import Workload


@dataclass(frozen=True)
class ModelProfile:
    """A model in one mode on one device.

    Attributes:
        records: as it is first, then patched with each strategy.
        needs: bytes that a strategy would take that is out of memory, on a card without an end.
        largest_batches: by strategy, where they were looked for.
        not_searched: why they were not.
    """

    workload: Workload
    records: tuple[Record, ...]
    needs: Mapping[str, int] = field(default_factory=dict)
    largest_batches: Mapping[str, Threshold] = field(default_factory=dict)
    not_searched: str = ""

    @property
    def as_is(self) -> Record:
        return self.records[0]
