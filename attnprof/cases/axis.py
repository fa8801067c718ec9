"""A size that is varied until it no longer fits, and the threshold that was found."""

from __future__ import annotations

from dataclasses import dataclass, replace

from attnprof.cases.measurement import Outcome
from attnprof.cases.record import Record
from attnprof.cases.workload import Workload

VARY = ("hw", "batch", "channels")


@dataclass(frozen=True)
class Axis:
    """The size that a search varies, and the workload that otherwise stays.

    Attributes:
        vary: `hw` (the height; the width follows by `aspect`), `batch` or `channels`.
        base: the workload whose size is varied.
        aspect: width over height.
        step: every size is a multiple of it.
    """

    vary: str
    base: Workload
    aspect: float = 1.0
    step: int = 1

    def workload(self, size: int) -> Workload:
        """Return the workload of a size."""
        if self.vary == "hw":
            return replace(self.base, height=size, width=max(1, round(size * self.aspect)))
        return replace(self.base, batch=size) if self.vary == "batch" else replace(self.base, channels=size)

    def amount(self, size: int) -> int:
        """Return the number that memory is compared with: N = H * W for `hw`, else the size itself."""
        return self.workload(size).positions if self.vary == "hw" else size

    def text(self, size: int) -> str:
        """Return a size for people: `64x64` for `hw`, else the number."""
        workload = self.workload(size)
        return f"{workload.height}x{workload.width}" if self.vary == "hw" else str(size)


@dataclass(frozen=True)
class Threshold:
    """The largest size that ran and the smallest that did not, for one strategy.

    Attributes:
        axis: what was varied.
        strategy: canonical spelling.
        largest_ok, smallest_failed: neighbouring multiples of the axis' step, both tried; None if no such
            size was tried, either because not even the smallest ran or because `reason` ended the search.
        failure: how `smallest_failed` ended.
        reason: the reason for `failure`, or why there is no `smallest_failed`.
        peak_bytes: the peak of `largest_ok`.
        exponent: p of peak ~ amount^p, between the two largest sizes that ran and are not neighbours.
        probes: the number of cases looked at.
        record: of the largest size that ran, else of the last probe.
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
        """Whether the largest size that ran and the smallest that failed are neighbours."""
        return self.smallest_failed is not None and self.smallest_failed - (self.largest_ok or 0) <= self.axis.step

    @property
    def smallest_oom(self) -> int | None:
        """The smallest size that failed, if it failed for want of memory."""
        return self.smallest_failed if self.failure is Outcome.OUT_OF_MEMORY else None
