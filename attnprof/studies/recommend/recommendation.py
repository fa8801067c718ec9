"""The answer of `attnprof recommend`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from attnprof.attention.strategy import Strategy
from attnprof.cases.axis import Axis, Threshold
from attnprof.cases.case import Case
from attnprof.cases.record import Record
from attnprof.cases.workload import Workload
from attnprof.studies.recommend.ranking import Option, Ranking
from attnprof.studies.recommend.snippet import snippet
from attnprof.units import format_bytes


@dataclass(frozen=True)
class Nearest:
    """A case near the one asked for, that fits.

    Attributes:
        given_up: what is changed to make it fit, from least to most harm: `batch`, `precision`, `keys`, `attention`
            or `map`.
        case: the case that fits.
        need_bytes: the memory that it needs.
    """

    given_up: str
    case: Case
    need_bytes: int


@dataclass(frozen=True)
class Recommendation:
    """The strategy to use for one workload on one device, and why not the others.

    `str()` gives a sentence; `print(recommendation.snippet)` gives code to paste.

    Attributes:
        ranking: every candidate, the pick first.
        sample: one of the records that the answer rests on: its environment is theirs.
        origin: the file of the records, if nothing was run for this answer.
        largest_map: the largest map on which the pick fits; None if nothing fits, or if the file does not tell.
        largest_batch: the same for the batch.
        nearest: if nothing fits, cases near the one asked for that do, the least harm first.
    """

    ranking: Ranking
    sample: Record
    origin: Path | None = None
    largest_map: Threshold | None = None
    largest_batch: Threshold | None = None
    nearest: tuple[Nearest, ...] = ()

    @property
    def pick(self) -> Option | None:
        """The candidate to use; None if none fits."""
        return self.ranking.pick

    @property
    def strategy(self) -> str | None:
        """The spelling of the pick's strategy; None if none fits."""
        return self.pick.strategy if self.pick else None

    @property
    def snippet(self) -> str:
        """Code that puts the pick in the place of the user's block; "" if none fits."""
        return snippet(self.pick.strategy, self.ranking.workload.block) if self.pick else ""

    def __str__(self) -> str:
        """Return the answer as one sentence."""
        workload, usable = self.ranking.workload, format_bytes(self.ranking.capacity.usable_bytes)
        if self.pick is None:
            return f"Nothing fits {workload} in {usable}."
        return f"Use {self.strategy} for {workload}: it needs {format_bytes(self.pick.need_bytes)} of {usable}."

    def __repr__(self) -> str:
        """Return the answer without the records it rests on."""
        return f"<Recommendation: {self}>"


def axes(workload: Workload, step: int) -> tuple[Axis, Axis]:
    """Return the axes of a workload's map, in multiples of `step`, and of its batch."""
    return Axis("hw", workload, workload.width / workload.height, step), Axis("batch", workload)


def fitting_approximations(ranking: Ranking) -> list[Nearest]:
    """Return the smallest approximate strategy of each kind that fits."""
    fitting = [option for option in ranking.options if ranking.fits(option) and not option.exact]
    found = []
    for given_up in ("precision", "keys", "attention"):
        kind = [option for option in fitting if _worst_given_up(option.record.case.parsed) == given_up]
        if kind:
            best = min(kind, key=lambda option: option.need_bytes or 0)
            found.append(Nearest(given_up, best.record.case, best.need_bytes or 0))
    return found


def _worst_given_up(strategy: Strategy) -> str:
    """Return which property an approximate strategy gives up; of several the one that does most harm."""
    if strategy.another_attention:
        return "attention"
    return "keys" if strategy.keys else "precision"
