"""What to measure: cases, and the order in which a sweep runs them. Needs no torch."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from attnprof.attention.blocks import BlockError, block_form
from attnprof.attention.registry import Strategy, StrategyError, parse_strategy
from attnprof.errors import AttnprofError
from attnprof.workload import DTYPES, MODES, ModelWorkload, Workload

# A model as its user wrote it, in the place of a strategy.
AS_IS = "as-is"

DEFAULT_STRATEGIES = (
    "naive", "naive+checkpoint", "chunked", "online", "sdpa", "sdpa-pad", "sdpa-split", "pooled:2",
)  # fmt: skip
# What a recommendation chooses from: besides these what lowers precision, and fewer keys.
RECOMMENDED_STRATEGIES = (
    *DEFAULT_STRATEGIES, "pooled:2+sdpa-pad", "sdpa-pad+amp", "sdpa-pad+fp16", "chunked+fp16",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One workload computed by one strategy (its canonical spelling), or `AS_IS` where that is a model."""

    workload: Workload
    strategy: str

    @property
    def parsed(self) -> Strategy:
        """What is as it was written gives nothing up: as the plain form."""
        return parse_strategy("naive" if self.strategy == AS_IS else self.strategy)

    @property
    def unsupported_reason(self) -> str | None:
        """Why this combination means nothing, or None."""
        precision = self.parsed.precision_name
        if precision and self.workload.dtype != "fp32":
            return f"{precision} changes the precision of an fp32 workload; this one is {self.workload.dtype}"
        return None

    def implies_out_of_memory(self, other: Case) -> bool:
        """Whether `other` cannot fit if this case did not: the same series, and larger."""
        return self.strategy == other.strategy and self.workload.is_within(other.workload)

    def to_json(self) -> dict[str, Any]:
        return {"strategy": self.strategy, **asdict(self.workload)}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Case:
        """Raises TypeError on fields that do not fit."""
        fields = dict(fields)
        strategy = str(fields.pop("strategy", ""))
        kind = ModelWorkload if "target" in fields else Workload
        return cls(strategy=strategy, workload=kind(**fields))

    def __str__(self) -> str:
        return f"{self.strategy} {self.workload}"


@dataclass(frozen=True)
class Plan:
    """Cases in the order in which they run: the smallest workloads first."""

    cases: tuple[Case, ...]


def estimated_seconds(case: Case, flops_per_second: float, seconds_per_case: float | None) -> float:
    """A rough guess for planning: two steps for memory, one for exactness, the rest for latency.

    Assumes that a step runs at half of the matrix-product rate, which the memory traffic of the
    plain form does not reach and the fused forms exceed.

    Args:
        seconds_per_case: for latency; None: memory alone.
    """
    step = case.workload.flops / (0.5 * flops_per_second)
    if seconds_per_case is None:
        return 0.15 + 2 * step
    return 0.15 + 3 * step + max(seconds_per_case, 4 * step)


def make_plan(
    *,
    sizes: Sequence[tuple[int, int]],
    batches: Sequence[int],
    channels: Sequence[int],
    strategies: Sequence[str],
    modes: Sequence[str],
    dtypes: Sequence[str],
    blocks: Sequence[str] = (Workload.block,),
    reduction: int | None = None,
) -> Plan:
    """Every combination once, ordered by work.

    Args:
        reduction: None: each block's own.

    Raises:
        AttnprofError: an empty list, an unknown name or a value that is out of range.
    """
    for name, values in {"hw": sizes, "batch": batches, "channels": channels, "strategy": strategies,
                         "mode": modes, "dtype": dtypes, "block": blocks}.items():  # fmt: skip
        if not values:
            raise AttnprofError(f"nothing to run: {name} is empty")
    require_known("mode", modes, MODES)
    require_known("dtype", dtypes, DTYPES)
    for name, numbers in {"hw": itertools.chain(*sizes), "batch": batches, "channels": channels,
                          "reduction": [1 if reduction is None else reduction]}.items():  # fmt: skip
        for number in numbers:
            if number < 1:
                raise AttnprofError(f"{name}: {number} is not a positive whole number")
    try:
        spellings = list(dict.fromkeys(str(parse_strategy(text)) for text in strategies))
        forms = [block_form(name) for name in blocks]
    except (StrategyError, BlockError) as error:
        raise AttnprofError(str(error)) from None
    for form, count in itertools.product(forms, channels):
        multiple = form.channel_multiple(reduction or form.reduction)
        if count % multiple:
            raise AttnprofError(
                f"channels: {count} is not divisible by {multiple}; choose other channels, or a reduction that "
                f"divides them (--reduction)"
            )
    workloads = {
        Workload(batch, count, height, width, dtype, mode, reduction or form.reduction, form.name)
        for batch, count, (height, width), dtype, mode, form in itertools.product(
            batches, channels, sizes, dtypes, modes, forms
        )
    }
    ordered = sorted(workloads, key=lambda w: (w.flops, w.block, w.mode, w.dtype, w.batch, w.channels, w.height))
    return Plan(tuple(Case(workload, spelling) for workload in ordered for spelling in spellings))


def parse_sizes(text: str) -> list[tuple[int, int]]:
    """`"64,64x96"` -> [(64, 64), (64, 96)].

    Raises:
        AttnprofError: an entry is neither H nor HxW.
    """
    sizes = []
    for entry in parse_names(text, "hw"):
        match = re.fullmatch(r"([0-9]+)(?:[xX]([0-9]+))?", entry)
        if not match:
            raise AttnprofError(f"hw: {entry!r} is not a size; write 64 or 64x96")
        sizes.append((int(match[1]), int(match[2] or match[1])))
    return sizes


def parse_numbers(text: str, name: str) -> list[int]:
    """`"1,4"` -> [1, 4].

    Raises:
        AttnprofError: an entry is not a whole number.
    """
    for entry in parse_names(text, name):
        if not re.fullmatch(r"[0-9]+", entry):
            raise AttnprofError(f"{name}: {entry!r} is not a positive whole number")
    return [int(entry) for entry in parse_names(text, name)]


def parse_names(text: str, name: str) -> list[str]:
    """`"a,b"` -> ["a", "b"].

    Raises:
        AttnprofError: nothing between the commas.
    """
    entries = [entry.strip() for entry in text.split(",")]
    if not all(entries):
        raise AttnprofError(f"{name}: {text!r} has an empty entry; separate values by single commas")
    return entries


def parse_inputs(texts: Sequence[str]) -> tuple[int, str]:
    """`["8,4,64,64", "8:long"]` -> (8, "4x64x64+:long"): the batch, and the inputs as `ModelWorkload` has them.

    Raises:
        AttnprofError: none, one that is no shape, or different batches.
    """
    if not texts:
        raise AttnprofError("input: say the shape of the model's input, batch first: --input 8,3,256,256")
    batches, inputs = [], []
    for text in texts:
        match = re.fullmatch(r"([1-9][0-9]*)((?:,[1-9][0-9]*)*)(:long)?", text.replace(" ", ""))
        if not match:
            raise AttnprofError(f"input: {text!r} is not a shape; write 8,3,256,256, or 8,77:long for whole numbers")
        batches.append(int(match[1]))
        inputs.append(match[2].lstrip(",").replace(",", "x") + (match[3] or ""))
    if len(set(batches)) > 1:
        raise AttnprofError(f"input: the batches differ: {', '.join(map(str, batches))}; the first number is the batch")
    return batches[0], "+".join(inputs)


def require_known(name: str, values: Iterable[str], known: Iterable[str]) -> None:
    """Raises AttnprofError on a value that is not known; the message names those that are."""
    for value in values:
        if value not in known:
            raise AttnprofError(f"{name}: {value!r} is not one of {', '.join(known)}")
