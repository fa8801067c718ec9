"""What a recommendation says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from attnprof.attention.strategy import Strategy
from attnprof.cases.axis import Axis, Threshold
from attnprof.cases.case import Case
from attnprof.cases.record import Record
from attnprof.cases.workload import Workload
from attnprof.studies.recommend.ranking import Ranking


@dataclass(frozen=True)
class Nearest:
    """A case near the one asked for, that fits.

    Attributes:
        given_up: for it; in order of harm `batch`, `precision`, `keys`, `attention` or `map`.
    """

    given_up: str
    case: Case
    need_bytes: int


@dataclass(frozen=True)
class Recommendation:
    """The answer.

    Attributes:
        sample: a record of it, for where its numbers come from.
        origin: the file that they come from; None: run for this question.
        largest_map, largest_batch: of the pick; from a file as far as that goes, or None.
        nearest: where nothing may be picked, the least harm first.
    """

    ranking: Ranking
    sample: Record
    origin: Path | None = None
    largest_map: Threshold | None = None
    largest_batch: Threshold | None = None
    nearest: tuple[Nearest, ...] = ()


def axes(workload: Workload, step: int) -> tuple[Axis, Axis]:
    """Its map, in multiples of `step`, and its batch, each with the rest as it is."""
    return Axis("hw", workload, workload.width / workload.height, step), Axis("batch", workload)


def fitting_approximations(ranking: Ranking) -> list[Nearest]:
    """The smallest of each kind that fits."""
    fitting = [option for option in ranking.options if ranking.fits(option) and not option.exact]
    found = []
    for given_up in ("precision", "keys", "attention"):
        kind = [option for option in fitting if _worst_given_up(option.record.case.parsed) == given_up]
        if kind:
            best = min(kind, key=lambda option: option.need_bytes or 0)
            found.append(Nearest(given_up, best.record.case, best.need_bytes or 0))
    return found


def _worst_given_up(strategy: Strategy) -> str:
    """Of an approximation."""
    if strategy.another_attention:
        return "attention"
    return "keys" if strategy.keys else "precision"
