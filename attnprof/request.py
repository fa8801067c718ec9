"""From what a user wrote, on the command line or in Python, to a plan and settings."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from platformdirs import user_state_path

from attnprof.catalogue import Card, parse_cards
from attnprof.errors import AttnprofError
from attnprof.measure.runner import Runner
from attnprof.plan import (
    DEFAULT_STRATEGIES,
    DTYPE_BYTES,
    MODES,
    Plan,
    make_plan,
    parse_names,
    parse_numbers,
    parse_sizes,
)
from attnprof.settings import Settings
from attnprof.units import parse_bytes


@dataclass(frozen=True)
class SweepRequest:
    """A sweep as asked for, each value in the spelling of the command line."""

    hw: str = "32,64"
    batch: str = "1"
    channels: str = "128"
    strategy: str = ",".join(DEFAULT_STRATEGIES)
    mode: str = ",".join(MODES)
    dtype: str = "fp32"
    reduction: int = 8
    device: str = "auto"
    gpu: str | None = None
    context: str | None = None
    budget: str | None = None
    case_seconds: float = 1.0
    timeout: float = 300.0
    seed: int = 0
    out: str | None = None
    resume: bool = False

    def plan(self) -> Plan:
        """Raises AttnprofError on a value that means nothing."""
        return make_plan(
            sizes=parse_sizes(self.hw),
            batches=parse_numbers(self.batch, "batch"),
            channels=parse_numbers(self.channels, "channels"),
            strategies=parse_names(self.strategy, "strategy"),
            modes=parse_names(self.mode, "mode"),
            dtypes=parse_names(self.dtype, "dtype"),
            reduction=self.reduction,
        )

    def settings(self) -> Settings:
        """Raises AttnprofError on a value that is out of range."""
        for name, seconds in {"timeout": self.timeout, "case-seconds": self.case_seconds}.items():
            if not (seconds > 0 and math.isfinite(seconds)):
                raise AttnprofError(f"{name}: {seconds:g} is not a positive number of seconds")
        return Settings(
            device=self.device,
            seed=self.seed,
            budget_bytes=parse_bytes(self.budget) if self.budget is not None else None,
            case_seconds=self.case_seconds,
            timeout_seconds=self.timeout,
        )

    def cards(self) -> list[Card]:
        """The cards to emulate; none: measure on `device`.

        Raises:
            AttnprofError: an unknown card or property, or options that exclude each other.
        """
        if self.gpu is None:
            if self.context is not None:
                raise AttnprofError("context: it is an emulated card's; name one with --gpu")
            return []
        if self.device != "auto":
            raise AttnprofError(f"gpu: --gpu {self.gpu} emulates and --device {self.device} measures; choose one")
        return parse_cards(self.gpu, self.context)

    def runners(self, tell: Callable[[str], None]) -> list[Runner]:
        """One for the device, or one for each emulated card.

        Args:
            tell: told what takes a while.

        Raises:
            AttnprofError: a value that means nothing, or cards cannot be emulated here.
        """
        cards, settings = self.cards(), self.settings()
        if not cards:
            return [Runner(settings)]
        from attnprof.emulation import emulating

        on_cuda = replace(settings, device="cuda")
        return [Runner(on_cuda, environ=emulating(card, tell)) for card in cards]

    def path(self) -> Path:
        """Where the records go: `out`, or a new file in the user's state folder.

        Raises:
            AttnprofError: there is nothing to resume.
        """
        if self.out is not None:
            return Path(self.out)
        if self.resume:
            raise AttnprofError("--resume continues a file: name it with --out")
        started = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
        return user_state_path("attnprof") / f"sweep-{started}.jsonl"


KNOWN_DTYPES = tuple(DTYPE_BYTES)
