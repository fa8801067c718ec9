"""How much memory there is, and whether a case fits into it."""

from __future__ import annotations

from dataclasses import dataclass

from attnprof.cases.measurement import Memory, Outcome
from attnprof.cases.record import Record


@dataclass(frozen=True)
class Capacity:
    """What there is, and what of it is to stay free.

    Attributes:
        total_bytes: of the card, the budget or the host.
        margin_bytes: for the rest of the model, other programs and what differs from what was tried.
    """

    total_bytes: int
    margin_bytes: int

    @property
    def usable_bytes(self) -> int:
        return max(0, self.total_bytes - self.margin_bytes)


def need_bytes(memory: Memory) -> int:
    """What a case takes of a device: on CUDA whole segments, and what lies outside the caching allocator."""
    return (memory.peak_reserved_bytes or memory.peak_allocated_bytes) + (memory.context_bytes or 0)


def fits(record: Record, capacity: Capacity) -> bool:
    """Whether the case ran and leaves the margin free."""
    memory = record.measurement.memory
    return record.outcome is Outcome.COMPLETED and memory is not None and need_bytes(memory) <= capacity.usable_bytes
