"""The cases to measure, and the order in which a sweep runs them. Needs no torch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from attnprof.attention.blocks.catalogue import BlockError, block_form
from attnprof.attention.strategy import StrategyError, parse_strategy
from attnprof.cases.case import Case
from attnprof.cases.parsing import require_known
from attnprof.cases.workload import DTYPES, MODES, Workload
from attnprof.errors import AttnprofError
from attnprof.text import shown

DEFAULT_STRATEGIES = (
    "naive",
    "naive+checkpoint",
    "chunked",
    "online",
    "sdpa",
    "sdpa-pad",
    "sdpa-split",
    "pooled:2",
)
_MOST_CASES = 100_000
# A recommendation also chooses from strategies with lower precision and fewer keys.
RECOMMENDED_STRATEGIES = (
    *DEFAULT_STRATEGIES,
    "pooled:2+sdpa-pad",
    "sdpa-pad+amp",
    "sdpa-pad+fp16",
    "chunked+fp16",
)


@dataclass(frozen=True)
class Plan:
    """The cases in the order in which they run: the smallest workloads first."""

    cases: tuple[Case, ...]


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
    """Return every combination once, ordered by work.

    Args:
        sizes: heights and widths.
        batches: batch sizes.
        channels: channel counts.
        strategies: spellings of strategies.
        modes: names from `MODES`.
        dtypes: names from `DTYPES`.
        blocks: names from the catalogue of blocks.
        reduction: C / (channels of query and key); None stands for each block's own.

    Raises:
        AttnprofError: a list is empty, a name is unknown or a value is out of range.
    """
    choices = {
        "hw": sizes,
        "batch": batches,
        "channels": channels,
        "strategy": strategies,
        "mode": modes,
        "dtype": dtypes,
        "block": blocks,
    }
    for name, values in choices.items():
        if not values:
            raise AttnprofError(f"nothing to run: {name} is empty")
    require_known("mode", modes, MODES)
    require_known("dtype", dtypes, DTYPES)
    reductions = [] if reduction is None else [reduction]
    counts = {"hw": itertools.chain(*sizes), "batch": batches, "channels": channels, "reduction": reductions}
    for name, numbers in counts.items():
        for number in numbers:
            if number < 1:
                raise AttnprofError(f"{name}: {shown(number)} is not a positive whole number")
    distinct = {name: len(set(values)) for name, values in choices.items()}
    count = math.prod(distinct.values())
    if count > _MOST_CASES:
        factors = " x ".join(f"{many} {name}" for name, many in distinct.items() if many > 1)
        longest = max(distinct, key=distinct.__getitem__)
        raise AttnprofError(f"{longest}: {factors} are {count} cases; give fewer values, for at most {_MOST_CASES}")
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
    for workload in workloads:
        if not workload.is_representable:
            given = {
                "hw": max(workload.height, workload.width),
                "batch": workload.batch,
                "channels": workload.channels,
            }
            largest = max(given, key=given.__getitem__)
            raise AttnprofError(
                f"{largest}: {given[largest]} in {workload} makes tensors that PyTorch cannot describe; choose a "
                f"smaller one"
            )
    ordered = sorted(workloads, key=lambda w: (w.flops, w.block, w.mode, w.dtype, w.batch, w.channels, w.height))
    return Plan(tuple(Case(workload, spelling) for workload in ordered for spelling in spellings))
