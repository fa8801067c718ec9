"""The studies: what a command is to find out, with every value typed and checked. `requests` makes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from attnprof.cases.axis import Axis
from attnprof.cases.cards import Card
from attnprof.cases.measurement import Outcome
from attnprof.cases.parsing import Margin
from attnprof.cases.plan import Plan
from attnprof.cases.settings import Settings


@dataclass(frozen=True)
class Study:
    """A request that has been read and checked.

    Attributes:
        settings: what the user chose beside the cases.
        cards: the cards to emulate; if there are none, the device of `settings` is measured.
        path: the file that keeps the records.
        resume: whether records that the file has already are used instead of being measured again.
        retry: the outcomes that are measured again although the file has them.
    """

    settings: Settings
    cards: tuple[Card, ...]
    path: Path
    resume: bool
    retry: tuple[Outcome, ...] = field(default=(), kw_only=True)

    @property
    def device_count(self) -> int:
        """The number of devices: one for each card, or the one that is measured."""
        return max(1, len(self.cards))

    def card_rank(self, card: str | None) -> int:
        """Return the place of a card among those asked for, to sort by; 0 for a device of this machine."""
        return [str(one) for one in self.cards].index(card) if card is not None and self.cards else 0


@dataclass(frozen=True)
class SweepStudy(Study):
    """The memory, latency and exactness of every case of a plan."""

    plan: Plan


@dataclass(frozen=True)
class LimitsStudy(Study):
    """The largest size that fits, on each axis with each strategy."""

    axes: tuple[Axis, ...]
    strategies: tuple[str, ...]


@dataclass(frozen=True)
class RecommendStudy(Study):
    """The strategy to use for one workload on one device.

    Attributes:
        plan: the candidates, all of one workload.
        margin: memory that is to stay free.
        allow_approximate: whether approximate strategies are ranked with the exact ones.
        records: a file to answer from, with nothing run; None if the candidates are to be run.
        named_strategies: whether the user named the candidates; if not, a file may offer others.
    """

    plan: Plan
    margin: Margin
    allow_approximate: bool = False
    records: Path | None = None
    named_strategies: bool = False


@dataclass(frozen=True)
class ModelStudy(Study):
    """A user's whole model, unmodified and patched with each strategy.

    Attributes:
        plan: for each mode the unmodified model first, then the patched ones.
        largest_batch: whether to search for the largest batch that fits.
    """

    plan: Plan
    largest_batch: bool = True
