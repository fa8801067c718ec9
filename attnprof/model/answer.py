"""What a profile of a model says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from attnprof.plan import AS_IS, Plan
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


def unfinished(plan: Plan, records: Iterable[Record], finished: Sequence[ModelProfile]) -> list[ModelProfile]:
    """What an interrupted command knows of the rest: profiles of what was measured, no batch searched."""
    done = {(profile.workload, profile.as_is.card) for profile in finished}
    places = {case: place for place, case in enumerate(plan.cases)}
    known: dict[tuple[Workload, str | None], list[Record]] = {}
    for record in sorted((r for r in records if r.case in places), key=lambda r: places[r.case]):
        known.setdefault((record.case.workload, record.card), []).append(record)
    return [
        ModelProfile(key[0], tuple(mine), not_searched="interrupted before")
        for key, mine in known.items()
        if key not in done and mine[0].case.strategy == AS_IS
    ]
