"""A size that is varied until it no longer fits, and the threshold that was found."""

from __future__ import annotations

from dataclasses import dataclass, replace

from attnprof.cases.measurement import Outcome
from attnprof.cases.record import Record
from attnprof.cases.workload import Workload

VARY = ("hw", "batch", "channels")


@dataclass(frozen=True)
class Axis:
    """What varies, and what stays.

    Attributes:
        vary: `hw` (the height, in multiples of `step`; the width follows), `batch` or `channels`.
        base: the workload whose size is varied.
        aspect: width over height.
        step: sizes are its multiples.
    """

    vary: str
    base: Workload
    aspect: float = 1.0
    step: int = 1

    def workload(self, size: int) -> Workload:
        if self.vary == "hw":
            return replace(self.base, height=size, width=max(1, round(size * self.aspect)))
        return replace(self.base, batch=size) if self.vary == "batch" else replace(self.base, channels=size)

    def amount(self, size: int) -> int:
        """What memory is said to grow with: N = H * W, or the size itself."""
        return self.workload(size).positions if self.vary == "hw" else size

    def text(self, size: int) -> str:
        workload = self.workload(size)
        return f"{workload.height}x{workload.width}" if self.vary == "hw" else str(size)


@dataclass(frozen=True)
class Threshold:
    """What a search found for one strategy.

    Attributes:
        largest_ok, smallest_failed: neighbouring multiples of the axis' step, both seen; None: none was
            seen, either because not even the smallest ran or because `reason` ended the search.
        failure: how `smallest_failed` ended.
        reason: its words; or why there is none.
        peak_bytes: of `largest_ok`.
        exponent: p of peak ~ amount^p, between the two largest sizes that ran and are not neighbours.
        probes: cases looked at.
        record: of the largest that ran, else of the last probe.
    """

    axis: Axis
    strategy: str
    largest_ok: int | None
    smallest_failed: int | None
    failure: Outcome | None
    reason: str
    peak_bytes: int | None
    exponent: float | None
    probes: int
    record: Record | None

    @property
    def closed(self) -> bool:
        """Whether what ran and what did not are neighbours."""
        return self.smallest_failed is not None and self.smallest_failed - (self.largest_ok or 0) <= self.axis.step

    @property
    def smallest_oom(self) -> int | None:
        return self.smallest_failed if self.failure is Outcome.OUT_OF_MEMORY else None
