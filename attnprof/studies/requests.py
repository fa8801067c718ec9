"""From what a user wrote, on the command line or in Python, to a plan and settings."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import ClassVar

from platformdirs import user_state_path

from attnprof.attention.blocks.catalogue import BlockError, block_form
from attnprof.attention.strategy import StrategyError, parse_strategy
from attnprof.cases.axis import VARY, Axis
from attnprof.cases.capacity import Capacity
from attnprof.cases.cards import Card, parse_cards
from attnprof.cases.case import AS_IS, Case
from attnprof.cases.parsing import parse_inputs, parse_names, parse_numbers, parse_ratio, parse_sizes, require_known
from attnprof.cases.plan import DEFAULT_STRATEGIES, RECOMMENDED_STRATEGIES, Plan, make_plan
from attnprof.cases.settings import Settings
from attnprof.cases.workload import DTYPES, MODES, OPTIMIZERS, ModelWorkload, Workload
from attnprof.errors import AttnprofError
from attnprof.measure.runner import Runner
from attnprof.units import format_bytes, parse_bytes


@dataclass(frozen=True)
class Request:
    """Where to run and how: what every command that measures is asked, in the spelling of the command line."""

    kind: ClassVar[str] = "records"
    memory_only: ClassVar[bool] = False
    estimates: ClassVar[bool] = False

    strategy: str = ",".join(DEFAULT_STRATEGIES)
    block: str = Workload.block
    mode: str = ",".join(MODES)
    dtype: str = "fp32"
    reduction: int | None = None
    device: str = "auto"
    gpu: str | None = None
    context: str | None = None
    budget: str | None = None
    case_seconds: float = 1.0
    timeout: float = 300.0
    seed: int = 0
    out: str | None = None
    resume: bool = False

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
            memory_only=self.memory_only,
            estimates=self.estimates,
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
        cards = self.cards()
        return [self.runner_of(card, tell) for card in cards] if cards else [Runner(self.settings())]

    def runner_of(self, card: Card, tell: Callable[[str], None] = lambda _: None) -> Runner:
        """One for an emulated card; arguments and errors as of `runners`."""
        from attnprof.emulation import emulation_environment

        return Runner(replace(self.settings(), device="cuda"), environ=emulation_environment(card, tell))

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
        return user_state_path("attnprof") / f"{self.kind}-{started}.jsonl"


@dataclass(frozen=True)
class SweepRequest(Request):
    """A sweep as asked for."""

    kind: ClassVar[str] = "sweep"

    hw: str = "32,64"
    batch: str = "1"
    channels: str = "128"

    def plan(self) -> Plan:
        """Raises AttnprofError on a value that means nothing."""
        return make_plan(
            sizes=parse_sizes(self.hw),
            batches=parse_numbers(self.batch, "batch"),
            channels=parse_numbers(self.channels, "channels"),
            strategies=self.candidates(),
            modes=parse_names(self.mode, "mode"),
            dtypes=parse_names(self.dtype, "dtype"),
            blocks=parse_names(self.block, "block"),
            reduction=self.reduction,
        )

    def candidates(self) -> list[str]:
        """The strategies, as they are spelled."""
        return parse_names(self.strategy, "strategy")


@dataclass(frozen=True)
class LimitsRequest(Request):
    """Thresholds as asked for: `vary` names the one of `hw`, `batch` and `channels` that is searched."""

    kind: ClassVar[str] = "limits"
    memory_only: ClassVar[bool] = True

    vary: str = "hw"
    hw: str = "64"
    batch: str = "1"
    channels: str = "128"
    aspect: str = "1"
    step: int | None = None
    timeout: float = 120.0

    def axes(self) -> list[Axis]:
        """One for each combination of what does not vary.

        Raises:
            AttnprofError: a value that means nothing.
        """
        if self.vary not in VARY:
            raise AttnprofError(f"vary: {self.vary!r} is not one of {', '.join(VARY)}")
        channels = str(self._channel_multiple()) if self.vary == "channels" else self.channels
        plan = make_plan(
            sizes=[(1, 1)] if self.vary == "hw" else parse_sizes(self.hw),
            batches=parse_numbers("1" if self.vary == "batch" else self.batch, "batch"),
            channels=parse_numbers(channels, "channels"),
            strategies=parse_names(self.strategy, "strategy"),
            modes=parse_names(self.mode, "mode"),
            dtypes=parse_names(self.dtype, "dtype"),
            blocks=parse_names(self.block, "block"),
            reduction=self.reduction,
        )
        workloads = dict.fromkeys(case.workload for case in plan.cases)
        return [Axis(self.vary, workload, parse_ratio(self.aspect), self._step()) for workload in workloads]

    def strategies(self) -> list[str]:
        """Canonical spellings; call `axes` first, which complains of unknown ones."""
        return list(dict.fromkeys(str(parse_strategy(name)) for name in parse_names(self.strategy, "strategy")))

    def _step(self) -> int:
        default = 1 if self.gpu is not None or self.vary == "batch" else 8
        step = self.step if self.step is not None else default
        if step < 1:
            raise AttnprofError(f"step: {step} is not a positive whole number")
        return math.lcm(step, self._channel_multiple()) if self.vary == "channels" else step

    def _channel_multiple(self) -> int:
        """What the channels must be a multiple of, for all blocks."""
        try:
            forms = [block_form(name) for name in parse_names(self.block, "block")]
        except BlockError as error:
            raise AttnprofError(str(error)) from None
        # A reduction that is no number is complained of with the rest.
        return math.lcm(*(form.channel_multiple(max(1, self.reduction or form.reduction)) for form in forms))


@dataclass(frozen=True)
class RecommendRequest(SweepRequest):
    """A question as asked: one workload, one device."""

    kind: ClassVar[str] = "recommend"
    estimates: ClassVar[bool] = True

    hw: str = "64"
    mode: str = "train"
    strategy: str = ",".join(RECOMMENDED_STRATEGIES)
    margin: str = "10%"
    allow_approximate: bool = False
    records: str | None = None
    case_seconds: float = 0.5
    timeout: float = 120.0

    def plan(self) -> Plan:
        """The candidates for the one workload.

        Raises:
            AttnprofError: a value that means nothing, or several.
        """
        self._margin()
        plan = super().plan()
        if len({case.workload for case in plan.cases}) > 1:
            raise AttnprofError(
                "recommend answers for one workload: give one value each of hw, batch, channels, block, mode and dtype"
            )
        if len(self.cards()) > 1:
            raise AttnprofError(f"recommend answers for one card: choose one of --gpu {self.gpu}")
        return plan

    @property
    def names_strategies(self) -> bool:
        """Whether the candidates were asked for by name."""
        return self.strategy != type(self).strategy

    def capacity(self, total_bytes: int) -> Capacity:
        """With the margin, `10%` of it or `1GiB`.

        Raises:
            AttnprofError: the margin is neither, or leaves nothing.
        """
        share, size = self._margin()
        margin = size + round(share * total_bytes)
        if margin >= total_bytes:
            raise AttnprofError(f"margin: {self.margin} leaves nothing of {format_bytes(total_bytes)}: make it smaller")
        return Capacity(total_bytes, margin)

    def _margin(self) -> tuple[float, int]:
        """A share of the whole, and bytes."""
        text = self.margin.strip()
        percent = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*%", text)
        if percent and float(percent[1]) < 100:
            return float(percent[1]) / 100, 0
        if percent or not text[:1].isdigit():
            raise AttnprofError(f"margin: {self.margin!r} is not below 100% and no memory size: write 10% or 1GiB")
        return 0.0, 0 if text == "0" else parse_bytes(text)

    def candidates(self) -> list[str]:
        names = super().candidates()
        if self.names_strategies or self.dtype == "fp32":
            return names
        # What lowers the precision of fp32 means nothing here.
        return [name for name in names if not parse_strategy(name).precision_name]


@dataclass(frozen=True)
class ModelRequest(Request):
    """A user's whole model, as it is and patched."""

    kind: ClassVar[str] = "model"

    target: str = ""
    input: tuple[str, ...] = ()
    strategy: str = f"{AS_IS},sdpa-pad,chunked"
    mode: str = "train"
    optimizer: str = "adam"
    amp: bool = False
    checkpointing: bool = False
    channels_last: bool = False
    largest_batch: bool = True

    def plan(self) -> Plan:
        """The model as it is first, then patched with each strategy; in each mode.

        Raises:
            AttnprofError: a value that means nothing.
        """
        batch, inputs = parse_inputs(self.input)
        modes = parse_names(self.mode, "mode")
        for name, values, known in (
            ("mode", modes, MODES), ("dtype", [self.dtype], DTYPES), ("optimizer", [self.optimizer], OPTIMIZERS),
        ):  # fmt: skip
            require_known(name, values, known)
        strategies = [name for name in parse_names(self.strategy, "strategy") if name != AS_IS]
        try:
            spellings = [AS_IS, *dict.fromkeys(str(parse_strategy(name)) for name in strategies)]
        except StrategyError as error:
            raise AttnprofError(str(error)) from None
        digest = self._digest()
        workloads = [
            ModelWorkload(
                batch, 1, 1, 1, self.dtype, mode, target=self.target, inputs=inputs, digest=digest,
                optimizer=self.optimizer if mode == "train" else "", amp=self.amp,
                checkpointing=self.checkpointing and mode == "train", channels_last=self.channels_last,
            )
            for mode in modes
        ]  # fmt: skip
        return Plan(tuple(Case(workload, strategy) for workload in workloads for strategy in spellings))

    def _digest(self) -> str:
        place, colon, name = self.target.rpartition(":")
        if not (place and colon and name):
            raise AttnprofError(f"model: {self.target!r} names no model; write PATH.py:NAME or package.module:NAME")
        if not place.endswith(".py"):
            return ""
        try:
            return hashlib.sha256(Path(place).read_bytes()).hexdigest()[:12]
        except OSError as error:
            raise AttnprofError(f"model: cannot read {place}: {error.strerror}") from None
