"""The door to every study: option values, from the command line or from Python, become a `Study` here.

Each function takes the options of one command under their own names, and reads and checks every value once.
Everything behind it is handed the frozen result.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, SupportsFloat, SupportsIndex, TypedDict

from attnprof.attention.blocks.catalogue import BlockError, block_form
from attnprof.attention.strategy import parse_strategy
from attnprof.cases.axis import VARY, Axis
from attnprof.cases.cards import Card
from attnprof.cases.case import AS_IS
from attnprof.cases.measurement import Outcome
from attnprof.cases.parsing import (
    Bytes,
    Cards,
    Location,
    Names,
    Numbers,
    Sizes,
    parse_cards_option,
    parse_choice,
    parse_device,
    parse_flag,
    parse_inputs,
    parse_margin,
    parse_memory,
    parse_names,
    parse_number,
    parse_numbers,
    parse_path,
    parse_ratio,
    parse_seconds,
    parse_seed,
    parse_sizes,
    require_known,
)
from attnprof.cases.plan import DEFAULT_STRATEGIES, RECOMMENDED_STRATEGIES, make_plan
from attnprof.cases.settings import Settings
from attnprof.cases.state_folder import new_record_path
from attnprof.cases.workload import MODES
from attnprof.errors import AttnprofError
from attnprof.studies.model_plan import make_model_plan
from attnprof.studies.study import LimitsStudy, ModelStudy, RecommendStudy, SweepStudy
from attnprof.text import shown

# The outcomes that --retry measures again, by the names that it takes.
RETRIED = {
    outcome.value.replace("_", "-"): outcome
    for outcome in (Outcome.CRASHED, Outcome.TIMED_OUT, Outcome.OUT_OF_MEMORY, Outcome.UNSUPPORTED)
}
MODEL_STRATEGIES = (AS_IS, "sdpa-pad", "chunked")


class _Place(TypedDict):
    """The attributes that every study has."""

    settings: Settings
    cards: tuple[Card, ...]
    path: Path
    resume: bool
    retry: tuple[Outcome, ...]


def sweep_study(
    *,
    hw: Sizes = "32,64",
    batch: Numbers = 1,
    channels: Numbers = 128,
    strategy: Names = DEFAULT_STRATEGIES,
    block: Names = "sagan",
    mode: Names = MODES,
    dtype: Names = "fp32",
    reduction: str | SupportsIndex | None = None,
    device: object = "auto",
    gpu: Cards | None = None,
    context: Bytes | None = None,
    budget: Bytes | None = None,
    case_seconds: str | SupportsFloat = 1.0,
    timeout: str | SupportsFloat = 300.0,
    seed: str | SupportsIndex = 0,
    out: Location | None = None,
    resume: bool = False,
    retry: Names | None = None,
) -> SweepStudy:
    """Make the study of `attnprof sweep`.

    Raises:
        AttnprofError: a value means nothing, or options exclude each other.
    """
    plan = make_plan(
        sizes=parse_sizes(hw),
        batches=parse_numbers(batch, "batch"),
        channels=parse_numbers(channels, "channels"),
        strategies=parse_names(strategy, "strategy"),
        modes=parse_names(mode, "mode"),
        dtypes=parse_names(dtype, "dtype"),
        blocks=parse_names(block, "block"),
        reduction=_optional_number(reduction, "reduction"),
    )
    settings = _settings(device, budget, timeout, seed, case_seconds)
    return SweepStudy(plan=plan, **_place("sweep", settings, gpu, context, out, resume, retry))


def limits_study(
    *,
    vary: str = "hw",
    hw: Sizes = 64,
    batch: Numbers = 1,
    channels: Numbers = 128,
    aspect: str | SupportsFloat = "1",
    step: str | SupportsIndex | None = None,
    strategy: Names = DEFAULT_STRATEGIES,
    block: Names = "sagan",
    mode: Names = MODES,
    dtype: Names = "fp32",
    reduction: str | SupportsIndex | None = None,
    device: object = "auto",
    gpu: Cards | None = None,
    context: Bytes | None = None,
    budget: Bytes | None = None,
    timeout: str | SupportsFloat = 120.0,
    seed: str | SupportsIndex = 0,
    out: Location | None = None,
    resume: bool = False,
    retry: Names | None = None,
) -> LimitsStudy:
    """Make the study of `attnprof limits`: an axis for each combination of what does not vary.

    Raises:
        AttnprofError: a value means nothing, or options exclude each other.
    """
    vary = parse_choice(vary, "vary", VARY)
    blocks, ratio = parse_names(block, "block"), _optional_number(reduction, "reduction")
    # A size that varies is searched from 1 on; channels from the fewest that all the blocks can have.
    fewest_channels = _channel_multiple(blocks, ratio)
    plan = make_plan(
        sizes=[(1, 1)] if vary == "hw" else parse_sizes(hw),
        batches=[1] if vary == "batch" else parse_numbers(batch, "batch"),
        channels=[fewest_channels] if vary == "channels" else parse_numbers(channels, "channels"),
        strategies=parse_names(strategy, "strategy"),
        modes=parse_names(mode, "mode"),
        dtypes=parse_names(dtype, "dtype"),
        blocks=blocks,
        reduction=ratio,
    )
    step_size = _optional_number(step, "step") or (1 if gpu is not None or vary == "batch" else 8)
    if vary == "channels":
        step_size = math.lcm(step_size, fewest_channels)
    width_over_height = parse_ratio(aspect)
    settings = _settings(device, budget, timeout, seed, memory_only=True)
    return LimitsStudy(
        axes=tuple(
            _bounded(Axis(vary, workload, width_over_height, step_size))
            for workload in dict.fromkeys(case.workload for case in plan.cases)
        ),
        strategies=tuple(dict.fromkeys(case.strategy for case in plan.cases)),
        **_place("limits", settings, gpu, context, out, resume, retry),
    )


def recommend_study(
    *,
    hw: Sizes = 64,
    batch: Numbers = 1,
    channels: Numbers = 128,
    mode: Names = "train",
    dtype: Names = "fp32",
    margin: Bytes = "10%",
    allow_approximate: bool = False,
    records: Location | None = None,
    strategy: Names = RECOMMENDED_STRATEGIES,
    block: Names = "sagan",
    reduction: str | SupportsIndex | None = None,
    device: object = "auto",
    gpu: Cards | None = None,
    context: Bytes | None = None,
    budget: Bytes | None = None,
    timeout: str | SupportsFloat = 120.0,
    seed: str | SupportsIndex = 0,
    out: Location | None = None,
    resume: bool = False,
    retry: Names | None = None,
) -> RecommendStudy:
    """Make the study of `attnprof recommend`: the candidates for one workload on one device.

    Raises:
        AttnprofError: a value means nothing, several values are given, or options exclude each other.
    """
    candidates, dtypes = parse_names(strategy, "strategy"), parse_names(dtype, "dtype")
    named = tuple(candidates) != RECOMMENDED_STRATEGIES
    if not named and dtypes != ["fp32"]:
        # Strategies that lower the precision of fp32 mean nothing in another dtype.
        candidates = [name for name in candidates if not parse_strategy(name).precision_name]
    sizes, batches, counts = parse_sizes(hw), parse_numbers(batch, "batch"), parse_numbers(channels, "channels")
    modes, blocks = parse_names(mode, "mode"), parse_names(block, "block")
    choices: dict[str, Sequence[Any]] = {
        "hw": sizes,
        "batch": batches,
        "channels": counts,
        "mode": modes,
        "dtype": dtypes,
        "block": blocks,
    }
    for name, values in choices.items():
        if len(set(values)) > 1:
            listed = ", ".join("x".join(map(str, one)) if isinstance(one, tuple) else str(one) for one in values[:3])
            more = ", ..." if len(values) > 3 else ""
            raise AttnprofError(f"{name}: recommend answers for one workload; choose one of {listed}{more}")
    plan = make_plan(
        sizes=sizes,
        batches=batches,
        channels=counts,
        strategies=candidates,
        modes=modes,
        dtypes=dtypes,
        blocks=blocks,
        reduction=_optional_number(reduction, "reduction"),
    )
    if records is not None and (out is not None or resume):
        raise AttnprofError("from: an answer from a file runs nothing; leave out --out and --resume, or --from")
    settings = _settings(device, budget, timeout, seed, case_seconds=0.5, estimates=True)
    place = _place("recommend", settings, gpu, context, out, resume, retry)
    if len(place["cards"]) > 1:
        raise AttnprofError(f"gpu: recommend answers for one card; choose one of {', '.join(map(str, place['cards']))}")
    return RecommendStudy(
        plan=plan,
        margin=parse_margin(margin),
        allow_approximate=parse_flag(allow_approximate, "allow-approximate"),
        records=None if records is None else parse_path(records, "from"),
        named_strategies=named,
        **place,
    )


def model_study(
    target: str,
    *,
    input: str | Iterable[Any],
    strategy: Names = MODEL_STRATEGIES,
    mode: Names = "train",
    optimizer: str = "adam",
    dtype: str = "fp32",
    amp: bool = False,
    checkpointing: bool = False,
    channels_last: bool = False,
    largest_batch: bool = True,
    device: object = "auto",
    gpu: Cards | None = None,
    context: Bytes | None = None,
    budget: Bytes | None = None,
    case_seconds: str | SupportsFloat = 1.0,
    timeout: str | SupportsFloat = 300.0,
    seed: str | SupportsIndex = 0,
    values: bool = True,
    out: Location | None = None,
    resume: bool = False,
    retry: Names | None = None,
) -> ModelStudy:
    """Make the study of `attnprof model`.

    Raises:
        AttnprofError: a value means nothing, options exclude each other, or the model's file cannot be read.
    """
    batch, inputs = parse_inputs(input)
    plan = make_model_plan(
        target,
        batch=batch,
        inputs=inputs,
        strategies=parse_names(strategy, "strategy"),
        modes=parse_names(mode, "mode"),
        dtype=dtype,
        optimizer=optimizer,
        amp=parse_flag(amp, "amp"),
        checkpointing=parse_flag(checkpointing, "checkpointing"),
        channels_last=parse_flag(channels_last, "channels-last"),
    )
    on_card = parse_flag(values, "values") and gpu is not None
    settings = _settings(device, budget, timeout, seed, case_seconds, values=on_card)
    place = _place("model", settings, gpu, context, out, resume, retry)
    return ModelStudy(plan=plan, largest_batch=parse_flag(largest_batch, "largest-batch"), **place)


def _settings(
    device: object,
    budget: Bytes | None,
    timeout: str | SupportsFloat,
    seed: str | SupportsIndex,
    case_seconds: str | SupportsFloat = Settings.case_seconds,
    *,
    memory_only: bool = False,
    estimates: bool = False,
    values: bool = False,
) -> Settings:
    return Settings(
        device=parse_device(device),
        seed=parse_seed(seed),
        budget_bytes=None if budget is None else parse_memory(budget, "budget"),
        case_seconds=parse_seconds(case_seconds, "case-seconds"),
        timeout_seconds=parse_seconds(timeout, "timeout"),
        memory_only=memory_only,
        estimates=estimates,
        values=values,
    )


def _place(
    command: str,
    settings: Settings,
    gpu: Cards | None,
    context: Bytes | None,
    out: Location | None,
    resume: bool,
    retry: Names | None,
) -> _Place:
    """Check how device and card go together, and choose the file of the records."""
    resume = parse_flag(resume, "resume")
    if gpu is None and context is not None:
        raise AttnprofError("context: only an emulated card has this allowance; name one with --gpu")
    if gpu is not None and settings.device != "auto":
        raise AttnprofError(f"gpu: {shown(gpu)} is emulated, and --device {settings.device} measures; choose one")
    if out is None and resume:
        raise AttnprofError("resume: --resume continues a file; name it with --out")
    outcomes = _retried(retry)
    if outcomes and not resume:
        raise AttnprofError("retry: --retry measures again what a file has; name the file with --out and add --resume")
    cards = () if gpu is None else parse_cards_option(gpu, context)
    path = new_record_path(command) if out is None else parse_path(out, "out")
    return _Place(settings=settings, cards=cards, path=path, resume=resume, retry=outcomes)


def _retried(retry: Names | None) -> tuple[Outcome, ...]:
    """Read the outcomes to measure again: `"crashed,timed-out"`."""
    names = [] if retry is None else parse_names(retry, "retry")
    require_known("retry", names, RETRIED)
    return tuple(RETRIED[name] for name in names)


def _bounded(axis: Axis) -> Axis:
    """Return an axis whose smallest size PyTorch can describe."""
    if not axis.workload(axis.step).is_representable:
        raise AttnprofError(
            f"step: {axis.step} is too large: PyTorch cannot describe such tensors; write a smaller one"
        )
    return axis


def _optional_number(value: str | SupportsIndex | None, name: str) -> int | None:
    return None if value is None else parse_number(value, name)


def _channel_multiple(blocks: Iterable[str], reduction: int | None) -> int:
    """Return the number that the channels must be a multiple of, for all blocks."""
    try:
        forms = [block_form(name) for name in blocks]
    except BlockError as error:
        raise AttnprofError(str(error)) from None
    return math.lcm(*(form.channel_multiple(reduction or form.reduction) for form in forms))
