"""Searches the largest size that fits: between one that ran and one that did not. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from attnprof.cases.axis import Axis, Threshold
from attnprof.cases.case import Case
from attnprof.cases.measurement import Outcome
from attnprof.cases.record import Record

# These outcomes do not say whether the size fits.
_TELLS_NOTHING = (Outcome.TIMED_OUT, Outcome.CRASHED)
_START = {"hw": 64, "batch": 1, "channels": 64}
_FAR = 1.2  # in a bracket wider than this factor, its lower end alone is no basis for a guess
_PATIENCE = 4  # guesses in a row that do not halve the bracket, before bisection begins
_APART = 1.05  # least factor between two sizes that a law is fitted to
_POINTS = 3  # sizes that a law is fitted to
# Powers of the size that memory may grow with. Side: 2 if memory is linear in N, 4 if quadratic. Batch: 1.
_POWERS = (0.5, 1.0, 2.0, 3.0, 4.0)
_GROWTH = 64.0  # largest factor from a size that ran to the next guess
_LARGEST = 2**40  # a search that comes so far has no end: its memory does not grow


class Search:
    """The sizes seen so far, and the next one to look at. It measures nothing itself.

    Guesses come from the law load = a + b * size^p through the three largest sizes that ran. If guessing does not
    halve the bracket any more, guesses come from bisection.

    Args:
        start: the first size to look at.
        step: sizes are its multiples.
        capacity_bytes: the load that just fits, for guessing alone.
    """

    def __init__(self, start: int, step: int, capacity_bytes: int) -> None:
        self.step, self.capacity_bytes = step, capacity_bytes
        self.loads: dict[int, int] = {}
        self.largest_ok: int | None = None
        self.smallest_failed: int | None = None
        self._start = max(step, start // step * step)
        self._slow = 0  # guesses in a row that did not halve the bracket
        self._surprises = 0  # sizes that ran although the law said that they would not

    def next_size(self) -> int | None:
        """Return the next size to look at; None if the bracket is closed, or nothing smaller is left."""
        low, high = self.largest_ok or 0, self.smallest_failed
        if high is None and low + self.step > _LARGEST:
            return None
        if high is None:
            return self._beyond(low) if low else self._start
        if high - low <= self.step:
            return None
        guess = self._guess() if self.loads and self._slow < _PATIENCE else (low + high) / 2
        # The fitted law is off by a step or two. If its guess falls outside the bracket, look just inside the nearer
        # end, then move inwards.
        aside = self.step * 2**self._slow
        if guess >= high:
            # In a wide bracket the sizes that ran are too far away to guess from, so come nearer first.
            guess = math.sqrt(low * high) if high > _FAR * low else high - aside
        elif guess <= low:
            guess = low + aside
        return self._clamped(guess, low + self.step, high - self.step)

    def tell(self, size: int, load_bytes: int | None) -> None:
        """Note the memory that a size needed, or None if it did not fit."""
        before = self._width()
        if load_bytes is None:
            self.smallest_failed = size
        else:
            self.largest_ok = size
            self.loads[size] = load_bytes
        after = self._width()
        self._slow = self._slow + 1 if after > before / 2 and before < math.inf else 0

    def _beyond(self, low: int) -> int:
        """Return a size above those that ran, while none has failed."""
        guess = self._guess()
        if guess <= low:  # more runs than the law says: double the distance each time
            guess = low + self.step * 2**self._surprises
            self._surprises += 1
        return self._clamped(guess, low + self.step, min(low * _GROWTH, _LARGEST))

    def _width(self) -> float:
        return math.inf if self.smallest_failed is None else self.smallest_failed - (self.largest_ok or 0)

    def _guess(self) -> float:
        points = self._spaced()
        if len(points) < _POINTS:
            return max(self.loads) + max(self._start / 2, self.step)
        (n1, l1), (n2, l2), (n3, l3) = points

        def miss(power: float) -> float:
            slope = (l2 - l1) / (n2**power - n1**power)
            return abs(float(l2 + slope * (n3**power - n2**power) - l3))

        power = min(_POWERS, key=miss)
        slope = (l3 - l2) / (n3**power - n2**power)
        if slope <= 0:
            return n3 * _GROWTH
        beyond = (self.capacity_bytes - l3) / slope + n3**power
        return float(beyond ** (1 / power)) if beyond > 0 else 0.0

    def _spaced(self) -> list[tuple[int, int]]:
        """Return the largest sizes that ran, far enough apart that the rounding to segments does not bend the law."""
        kept: list[tuple[int, int]] = []
        for size in sorted(self.loads, reverse=True):
            if not kept or size * _APART <= kept[0][0]:
                kept.insert(0, (size, self.loads[size]))
        return kept[-_POINTS:]

    def _clamped(self, guess: float, low: float, high: float) -> int:
        return int(min(max(guess, low), high)) // self.step * self.step


def find_threshold(
    axis: Axis,
    strategy: str,
    capacity_bytes: int,
    probe: Callable[[Case], Record],
    untried: Callable[[Case], str] = lambda _: "",
    start: int | None = None,
    records: dict[int, Record] | None = None,
) -> Threshold:
    """Probe until the largest size that runs and the smallest that does not are neighbours.

    Args:
        axis: what varies.
        strategy: its canonical spelling.
        capacity_bytes: memory that a case may use, for guessing alone.
        probe: measures a case.
        untried: returns why a case is not worth trying, or ""; the first such case ends the search.
        start: the first size to look at; by default a small one.
        records: gets the record of each size as it is probed, for a caller that may be interrupted.

    Returns:
        Both sizes, and how memory grows between them.
    """
    search = Search(start or _START[axis.vary], axis.step, capacity_bytes)
    records = {} if records is None else records
    reason = ""
    while (size := search.next_size()) is not None:
        reason = untried(Case(axis.workload(size), strategy))
        if reason:
            size = _nearer(axis, strategy, size, search.largest_ok, untried)
        if size is None:
            break
        record = records[size] = probe(Case(axis.workload(size), strategy))
        if record.outcome in _TELLS_NOTHING:
            reason = record.reason
            break
        search.tell(size, _load_bytes(record) if record.outcome is Outcome.COMPLETED else None)
        if reason:
            break
    if not reason and search.smallest_failed is None:
        reason = f"nothing up to {axis.text(max(records, default=0))} failed"
    return threshold_of(axis, strategy, records, reason)


def threshold_of(axis: Axis, strategy: str, records: Mapping[int, Record], reason: str = "") -> Threshold:
    """Return what the records of a search tell, complete or not.

    Args:
        axis: what varies.
        strategy: its canonical spelling.
        records: by size, in the order in which they were probed.
        reason: why the search ended early; "" if it did not.
    """
    ran = [size for size, record in records.items() if record.outcome is Outcome.COMPLETED]
    largest_ok = max(ran, default=None)
    smallest_failed = min((size for size in records if size not in ran and _failed(records[size])), default=None)
    failed = None if smallest_failed is None else records[smallest_failed]
    best = None if largest_ok is None else records[largest_ok]
    memory = best.measurement.memory if best else None
    return Threshold(
        axis=axis,
        strategy=strategy,
        largest_ok=largest_ok,
        smallest_failed=smallest_failed,
        failure=failed.outcome if failed else None,
        reason=reason or (failed.reason if failed else ""),
        peak_bytes=memory.peak_allocated_bytes if memory else None,
        exponent=_exponent(axis, records),
        probes=len(records),
        record=best or next(iter(reversed(tuple(records.values()))), None),
    )


def _failed(record: Record) -> bool:
    return record.outcome not in _TELLS_NOTHING


def _nearer(axis: Axis, strategy: str, size: int, largest_ok: int | None, untried: Callable[[Case], str]) -> int | None:
    """Return a size between the largest that ran and one too slow to try; None if the gap is too small."""
    while largest_ok and size > _FAR * largest_ok:
        size = int(math.sqrt(size * largest_ok)) // axis.step * axis.step
        if size > largest_ok and not untried(Case(axis.workload(size), strategy)):
            return size
    return None


def _load_bytes(record: Record) -> int:
    """Return the bytes that count against the capacity: reserved segments on CUDA, allocated bytes elsewhere."""
    memory = record.measurement.memory
    assert memory is not None
    return memory.peak_reserved_bytes or memory.peak_allocated_bytes


def _exponent(axis: Axis, records: Mapping[int, Record]) -> float | None:
    """Return p of peak ~ amount^p, from the largest size that ran and the next one that is far enough from it."""
    peaks = {
        axis.amount(size): record.measurement.memory.peak_allocated_bytes
        for size, record in records.items()
        if record.measurement.memory is not None and record.measurement.memory.peak_allocated_bytes
    }
    amounts = sorted(peaks)
    if not amounts:
        return None
    apart = [amount for amount in amounts if amount <= amounts[-1] / _FAR]
    if not apart:
        return None
    small, large = apart[-1], amounts[-1]
    return math.log(peaks[large] / peaks[small]) / math.log(large / small)
