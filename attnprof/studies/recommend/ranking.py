"""Which of the variants that were tried to use, and why not the others. Needs no torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from attnprof.cases.capacity import Capacity, fits, need_bytes
from attnprof.cases.measurement import Outcome
from attnprof.cases.record import Record
from attnprof.cases.workload import Workload
from attnprof.units import format_bytes

# Latencies within this factor count as equal, and memory decides.
CLOSE_MEASURED = 1.1
CLOSE_ESTIMATED = 1.3
_NOTABLE = 1.05  # times the memory: below, it is the same


@dataclass(frozen=True)
class Option:
    """A variant for the workload.

    Attributes:
        need_bytes: at its peak, on CUDA with cache and context; None: not known.
        seconds: of a step; None: not known.
        measured: whether `seconds` is a latency, and not an estimate.
        usable: whether it may be picked.
        why_not: why it is not the pick; "" for the pick.
    """

    record: Record
    need_bytes: int | None
    seconds: float | None
    measured: bool
    usable: bool
    why_not: str = ""

    @property
    def strategy(self) -> str:
        return self.record.case.strategy

    @property
    def exact(self) -> bool:
        return self.record.case.parsed.exact


@dataclass(frozen=True)
class Ranking:
    """Every option, the pick first, then what could be used instead, then what could not."""

    workload: Workload
    capacity: Capacity
    options: tuple[Option, ...]

    @property
    def pick(self) -> Option | None:
        return next((option for option in self.options if option.usable), None)

    @property
    def naive(self) -> Option | None:
        return next((option for option in self.options if option.strategy == "naive"), None)

    def fits(self, option: Option) -> bool:
        """Whether it ran and leaves the margin free, approximate or not."""
        return fits(option.record, self.capacity)


def rank(
    records: Iterable[Record],
    capacity: Capacity,
    *,
    allow_approximate: bool = False,
    needs: Mapping[str, int] | None = None,
) -> Ranking:
    """Exact before approximate unless allowed; then the latency where it is known; memory breaks ties.

    Args:
        records: of one workload on one device; at least one.
        needs: what strategies would take that were out of memory, where that is known.
    """
    options = [_option(record, capacity, allow_approximate, needs or {}) for record in records]
    usable = _ordered([option for option in options if option.usable])
    pick = usable[0] if usable else None
    # Of what cannot be used first what would fit, then the nearest to fitting.
    rejected = sorted(
        (option for option in options if not option.usable),
        key=lambda o: (not fits(o.record, capacity), o.need_bytes is None, o.need_bytes or 0),
    )
    explained = [_explained(option, pick, capacity) for option in [*usable, *rejected]]
    return Ranking(options[0].record.case.workload, capacity, tuple(explained))


def _option(record: Record, capacity: Capacity, allow_approximate: bool, needs: Mapping[str, int]) -> Option:
    found = record.measurement
    need = need_bytes(found.memory) if found.memory else needs.get(record.case.strategy)
    seconds = found.latency.median_seconds if found.latency else found.estimate.seconds if found.estimate else None
    usable = fits(record, capacity) and (allow_approximate or record.case.parsed.exact)
    return Option(record, need, seconds, found.latency is not None, usable)


def _ordered(options: list[Option]) -> list[Option]:
    """One after the other the smallest of those about as fast as the fastest that is left."""
    left, ordered = list(options), []
    while left:
        fastest = min((o for o in left if o.seconds is not None), key=lambda o: o.seconds or 0.0, default=None)
        close = [o for o in left if fastest is None or _as_fast(o, fastest)]
        best = min(close, key=lambda o: o.need_bytes or 0)
        left.remove(best)
        ordered.append(best)
    return ordered


def _as_fast(option: Option, other: Option) -> bool:
    return option.seconds is not None and _slower(option, other) <= _closeness(option, other)


def _slower(option: Option, other: Option) -> float:
    assert option.seconds is not None and other.seconds is not None
    return option.seconds / other.seconds


def _closeness(option: Option, other: Option) -> float:
    return CLOSE_MEASURED if option.measured and other.measured else CLOSE_ESTIMATED


def _explained(option: Option, pick: Option | None, capacity: Capacity) -> Option:
    why = "" if option is pick else _why_not(option, pick, capacity)
    return Option(option.record, option.need_bytes, option.seconds, option.measured, option.usable, why)


def _why_not(option: Option, pick: Option | None, capacity: Capacity) -> str:
    record, need = option.record, option.need_bytes
    if record.outcome not in (Outcome.COMPLETED, Outcome.OUT_OF_MEMORY):
        return f"{record.outcome.value.replace('_', ' ')}: {record.reason}"
    if not fits(record, capacity):
        if need is None or need <= capacity.usable_bytes:
            asked = re.search(r"ried to allocate ([0-9.]+ \w+)", record.reason)
            return f"out of memory: asked for {asked[1]} more" if asked else f"out of memory: {record.reason}"
        return f"over by {format_bytes(need - capacity.usable_bytes)}"
    parts = [] if option.usable else [f"approximate: {record.case.parsed.approximation}"]
    if pick is not None:
        parts += _compared(option, pick)
    return ", ".join(parts)


def _compared(option: Option, pick: Option) -> list[str]:
    parts = []
    if option.seconds is not None and pick.seconds is not None:
        slower, close = _slower(option, pick), _closeness(option, pick)
        if slower > close:
            parts.append(f"{slower:.1f}x slower")
        elif slower < 1 / close:
            parts.append(f"{1 / slower:.1f}x faster")
        else:
            parts.append("about as fast")
    assert option.need_bytes is not None and pick.need_bytes is not None
    more = option.need_bytes / pick.need_bytes
    if more > _NOTABLE:
        parts.append(f"{more:.1f}x the memory")
    elif more < 1 / _NOTABLE:
        parts.append(f"{1 / more:.1f}x less memory")
    return parts
