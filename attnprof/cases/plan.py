"""What to measure: cases, and the order in which a sweep runs them. Needs no torch."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from attnprof.attention.blocks.catalogue import BlockError, block_form
from attnprof.attention.strategy import StrategyError, parse_strategy
from attnprof.cases.case import Case
from attnprof.cases.parsing import require_known
from attnprof.cases.workload import DTYPES, MODES, Workload
from attnprof.errors import AttnprofError

DEFAULT_STRATEGIES = (
    "naive", "naive+checkpoint", "chunked", "online", "sdpa", "sdpa-pad", "sdpa-split", "pooled:2",
)  # fmt: skip
# What a recommendation chooses from: besides these what lowers precision, and fewer keys.
RECOMMENDED_STRATEGIES = (
    *DEFAULT_STRATEGIES, "pooled:2+sdpa-pad", "sdpa-pad+amp", "sdpa-pad+fp16", "chunked+fp16",
)  # fmt: skip


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
