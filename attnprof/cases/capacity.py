"""The memory that a case may use, and whether the case fits into it."""

from __future__ import annotations

from dataclasses import dataclass

from attnprof.cases.measurement import Memory, Outcome
from attnprof.cases.record import Record


@dataclass(frozen=True)
class Capacity:
    """The memory there is, and the part of it that is to stay free.

    Attributes:
        total_bytes: the memory of the card, the budget or the host.
        margin_bytes: kept free for the rest of the model, for other programs and for what differs from the case.
    """

    total_bytes: int
    margin_bytes: int

    @property
    def usable_bytes(self) -> int:
        """The memory that a case may take."""
        return max(0, self.total_bytes - self.margin_bytes)


def memory_limit_bytes(budget_bytes: int | None, device_bytes: int | None) -> int | None:
    """Return the budget or the device's memory, whichever is less; None if neither is known.

    Args:
        budget_bytes: the memory that the user allows (`--budget`); None without one.
        device_bytes: the memory of the device; None for a CPU, which has none of its own.
    """
    return min((size for size in (budget_bytes, device_bytes) if size is not None), default=None)


def need_bytes(memory: Memory) -> int:
    """Return the bytes that a case takes of a device: on CUDA whole segments, and what is outside of the allocator."""
    return (memory.peak_reserved_bytes or memory.peak_allocated_bytes) + (memory.context_bytes or 0)


def fits(record: Record, capacity: Capacity) -> bool:
    """Return whether the case ran and leaves the margin free."""
    memory = record.measurement.memory
    return record.outcome is Outcome.COMPLETED and memory is not None and need_bytes(memory) <= capacity.usable_bytes
