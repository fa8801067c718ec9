"""The rule by which `recommend` and `sweep` pick a variant, and the reasons against the others. Needs no torch.

The rule: options count as equally fast if the interval of their step time overlaps that of the fastest option. Among
them the one that needs the least memory is picked; memory within 5 % counts as equal, and then the shorter step
decides.

The interval of a measured time is as wide as its samples are few and noisy, and at least 5 % to either side. Two
estimates overlap if they are within a factor of 1.3. The fastest is the option whose interval ends first. All others
are compared with it alone: overlap is not transitive, and a chain of neighbours would end at an option that is
certainly slower.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from attnprof.cases.capacity import Capacity, fits, need_bytes
from attnprof.cases.measurement import Latency, Outcome
from attnprof.cases.record import Record
from attnprof.cases.workload import Workload
from attnprof.units import format_bytes

# Two medians differ at about the 95 % level if the intervals of 1.57 IQR / sqrt(n) around them do not overlap
# (McGill, Tukey and Larsen 1978, doi:10.1080/00031305.1978.10479236).
_NOTCH = 1.57
# The IQR of a few samples says little, and that of one nothing: a single sample may be off by half.
_SINGLE_SAMPLE = 0.5
# Runs differ by more than their own samples do: clocks, other programs, where memory lies.
_LEAST = 0.05
# Two estimates differ if they are further apart than 1.3x. They err alike: their ratio is better than they are.
_ESTIMATE_WIDTH = 1.3**0.5 - 1
# A smaller saving of memory is worth no time.
_EQUAL_MEMORY = 1.05


@dataclass(frozen=True)
class StepTime:
    """The time of a step, and the interval in which another run of it would be expected.

    Attributes:
        seconds: the median, or the estimate.
        width: the interval is from seconds / (1 + width) to seconds * (1 + width).
        measured: whether it is a latency, and not an estimate.
    """

    seconds: float
    width: float
    measured: bool

    @property
    def low_seconds(self) -> float:
        """The interval's beginning."""
        return self.seconds / (1 + self.width)

    @property
    def high_seconds(self) -> float:
        """The interval's end."""
        return self.seconds * (1 + self.width)

    def overlaps(self, other: StepTime) -> bool:
        """Return whether the two may be equally fast."""
        return self.low_seconds <= other.high_seconds and other.low_seconds <= self.high_seconds

    @classmethod
    def of(cls, record: Record) -> StepTime | None:
        """Return the step time of a record; None if it has neither a latency nor an estimate."""
        latency, estimate = record.measurement.latency, record.measurement.estimate
        if latency is not None and latency.median_seconds > 0:
            return cls(latency.median_seconds, _noise(latency), True)
        return cls(estimate.seconds, _ESTIMATE_WIDTH, False) if estimate is not None else None


def _noise(latency: Latency) -> float:
    """Return the half-width of a median's interval, as a share of the median."""
    count = len(latency.samples_seconds)
    notch = _NOTCH * latency.iqr_seconds / latency.median_seconds / math.sqrt(count)
    return max(_LEAST, _SINGLE_SAMPLE / count**2, notch)


@dataclass(frozen=True)
class Option:
    """A strategy for the workload.

    Attributes:
        record: its case and what came of it.
        need_bytes: memory at its peak, on CUDA with cache and context; None if it is not known.
        time: the time of a step; None if it is not known.
        usable: whether it may be picked.
        why_not: why it is not the pick; "" for the pick.
    """

    record: Record
    need_bytes: int | None
    time: StepTime | None
    usable: bool
    why_not: str = ""

    @property
    def strategy(self) -> str:
        """The strategy's canonical spelling."""
        return self.record.case.strategy

    @property
    def exact(self) -> bool:
        """Whether it computes what `naive` computes, to rounding."""
        return self.record.case.parsed.exact


def best_option(options: Iterable[Option]) -> Option | None:
    """Return the option to pick; None if there is none. Their order does not matter.

    Options without a time are picked only if no option has one; memory alone decides then.
    """
    equal = _equally_fast(list(options))
    least = min((_memory(option) for option in equal), default=0)
    small = [option for option in equal if _memory(option) <= _EQUAL_MEMORY * least]
    return min(small, key=lambda o: (o.time.seconds if o.time else 0.0, _memory(o), o.strategy), default=None)


def pick_record(records: Iterable[Record]) -> Record | None:
    """Return the record to pick among those of exact strategies that ran, whatever memory they need."""
    ran = (r for r in records if r.outcome is Outcome.COMPLETED and r.measurement.memory and r.case.parsed.exact)
    best = best_option(map(option_of, ran))
    return best.record if best else None


def option_of(record: Record, need: int | None = None) -> Option:
    """Make an option of a record; it may be picked if it ran, whatever memory it needs.

    Args:
        record: of one strategy.
        need: the bytes that it needs, if it did not run and they are known.
    """
    memory = record.measurement.memory
    usable = record.outcome is Outcome.COMPLETED
    return Option(record, need_bytes(memory) if memory else need, StepTime.of(record), usable)


def _equally_fast(options: Sequence[Option]) -> list[Option]:
    """Return the fastest option and those that may be as fast; all of them if no time is known."""
    timed = [(option, option.time) for option in options if option.time is not None]
    if not timed:
        return list(options)
    _, fastest = min(timed, key=lambda pair: (pair[1].high_seconds, pair[1].seconds))
    return [option for option, time in timed if time.overlaps(fastest)]


def _memory(option: Option) -> int:
    return option.need_bytes or 0


@dataclass(frozen=True)
class Ranking:
    """The options for one workload on one device, in order of preference.

    Attributes:
        workload: what is to be computed.
        capacity: the memory there is, and the margin that is to stay free.
        options: the pick first, then what could be used in its place, then what could not.
    """

    workload: Workload
    capacity: Capacity
    options: tuple[Option, ...]

    @property
    def pick(self) -> Option | None:
        """The option to use; None if none fits."""
        return next((option for option in self.options if option.usable), None)

    @property
    def naive(self) -> Option | None:
        """The plain form; None if it is not among the options."""
        return next((option for option in self.options if option.strategy == "naive"), None)

    def fits(self, option: Option) -> bool:
        """Return whether an option ran and leaves the margin free, approximate or not."""
        return fits(option.record, self.capacity)


def rank(
    records: Iterable[Record],
    capacity: Capacity,
    *,
    allow_approximate: bool = False,
    needs: Mapping[str, int] | None = None,
) -> Ranking:
    """Order the options: the pick, then what could be used in its place, then what could not, each with its reason.

    Args:
        records: of one workload on one device; at least one.
        capacity: the memory there is, and the margin that is to stay free.
        allow_approximate: whether approximate strategies may be picked like exact ones.
        needs: the bytes that strategies would need that ran out of memory, as far as they are known.
    """
    options = [option_of(record, (needs or {}).get(record.case.strategy)) for record in records]
    options = [
        replace(option, usable=fits(option.record, capacity) and (allow_approximate or option.exact))
        for option in options
    ]
    usable = [option for option in options if option.usable]
    equal = _equally_fast(usable)
    ordered = _ordered(usable)
    pick = ordered[0] if ordered else None
    # First what would fit, then what is nearest to fitting.
    rejected = sorted(
        (option for option in options if not option.usable),
        key=lambda o: (not fits(o.record, capacity), o.need_bytes is None, _memory(o), o.strategy),
    )
    explained = [
        replace(option, why_not=_why_not(option, pick, option in equal, capacity)) for option in [*ordered, *rejected]
    ]
    return Ranking(options[0].record.case.workload, capacity, tuple(explained))


def _ordered(options: Sequence[Option]) -> list[Option]:
    """Repeatedly take the option that the rule picks among those that are left."""
    left, ordered = list(options), []
    while (best := best_option(left)) is not None:
        left.remove(best)
        ordered.append(best)
    return ordered


def _why_not(option: Option, pick: Option | None, equal: bool, capacity: Capacity) -> str:
    """Return why an option is not the pick; "" for the pick.

    Args:
        option: one of the options.
        pick: the one that was picked, if any.
        equal: whether the option counts as equally fast as the fastest of those that could be picked.
        capacity: the memory there is.
    """
    if option is pick:
        return ""
    record, need = option.record, option.need_bytes
    if record.outcome not in (Outcome.COMPLETED, Outcome.OUT_OF_MEMORY):
        return f"{record.outcome.words}: {record.reason}"
    if not fits(record, capacity):
        if need is None or need <= capacity.usable_bytes:
            asked = re.search(r"ried to allocate ([0-9.]+ \w+)", record.reason)
            return f"out of memory: asked for {asked[1]} more" if asked else f"out of memory: {record.reason}"
        return f"over by {format_bytes(need - capacity.usable_bytes)}"
    parts = [] if option.usable else [f"approximate: {record.case.parsed.approximation}"]
    if pick is not None:
        parts += [text for text in (_time_text(option, pick, equal), _memory_text(option, pick)) if text]
    return ", ".join(parts)


def _time_text(option: Option, pick: Option, equal: bool) -> str:
    """Return an option's time compared with the pick's; "" if one of them is not known."""
    mine, theirs = option.time, pick.time
    if mine is None or theirs is None:
        return ""
    # An option that is certainly slower than the fastest may still overlap the pick, which need not be the fastest.
    if equal or (not option.usable and mine.overlaps(theirs)):
        return "about as fast"
    ratio = mine.seconds / theirs.seconds
    if ratio >= 1.05:
        return f"{ratio:.1f}x slower"
    return f"{1 / ratio:.1f}x faster" if not option.usable else "slower than the fastest"


def _memory_text(option: Option, pick: Option) -> str:
    """Return an option's memory compared with the pick's; "" if they are equal."""
    more = _memory(option) / max(1, _memory(pick))
    if more > _EQUAL_MEMORY:
        return f"{more:.1f}x the memory"
    return f"{1 / more:.1f}x less memory" if more < 1 / _EQUAL_MEMORY else ""
