"""The Python API: each function does what the command of its name does, and returns the result as an object.

Options have the names and defaults of the command line. A list is text separated by commas (`"naive,chunked"`) or any
Python list of values; numbers of NumPy, tuples and paths are welcome. Progress is shown on stderr as the commands show
it: a live bar on a terminal, elsewhere a line for each case. Every result is a record on disk before the next case
begins, so after Ctrl-C the same call with `out=` and `resume=True` continues. Wrong arguments raise `AttnprofError`
with one sentence that names the argument.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import IO, TYPE_CHECKING, Any, SupportsFloat, SupportsIndex, TypeVar

from attnprof.cases.cards import Card, catalogue
from attnprof.cases.parsing import (
    Bytes,
    Cards,
    Location,
    Names,
    Numbers,
    Sizes,
    parse_choice,
    parse_flag,
    parse_one_card,
    parse_words,
)
from attnprof.cases.plan import DEFAULT_STRATEGIES, RECOMMENDED_STRATEGIES
from attnprof.cases.workload import MODES
from attnprof.emulation.plan_orders import FIRST, ORDERS, RANGE
from attnprof.progress import (
    CandidateProgress,
    CaseProgress,
    ModelProgress,
    SearchProgress,
    StudyProgress,
    progress_on_stderr,
)
from attnprof.studies.model import ModelProfile, ModelRun
from attnprof.studies.program import ProgramRun
from attnprof.studies.recommend.from_file import recommend_from_file
from attnprof.studies.recommend.from_runs import RecommendRun
from attnprof.studies.recommend.recommendation import Recommendation
from attnprof.studies.requests import MODEL_STRATEGIES, limits_study, model_study, recommend_study, sweep_study
from attnprof.studies.study import Study
from attnprof.studies.study_run import StudyRun
from attnprof.text import harmless

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from attnprof.report.page import Page

S = TypeVar("S", bound=Study)
T = TypeVar("T")


def sweep(
    hw: Sizes = "32,64",
    *,
    batch: Numbers = 1,
    channels: Numbers = 128,
    mode: Names = MODES,
    dtype: Names = "fp32",
    block: Names = "sagan",
    reduction: SupportsIndex | None = None,
    strategy: Names = DEFAULT_STRATEGIES,
    device: str | torch.device = "auto",
    gpu: Cards | None = None,
    context: Bytes | None = None,
    budget: Bytes | None = None,
    case_seconds: SupportsFloat = 1.0,
    timeout: SupportsFloat = 300.0,
    seed: SupportsIndex = 0,
    out: Location | None = None,
    resume: bool = False,
    retry: Names | None = None,
) -> pd.DataFrame:
    """Measure peak memory, latency and exactness of every combination of the given values.

    Examples:
        >>> import attnprof
        >>> frame = attnprof.sweep(8, channels=16, mode="forward", strategy=["naive", "chunked"], device="cpu")
        >>> list(frame["strategy"])
        ['naive', 'chunked']
        >>> bool((frame["peak_allocated_bytes"] > 0).all())
        True

    Args:
        hw: sizes of the feature map, as `64`, `"64,64x96"` or `[64, (64, 96)]`, each (H, W). The values of a flat
            list are sizes of their own: `[64, 96]` is 64x64 and 96x96.
        batch: batch sizes.
        channels: numbers of input channels.
        mode: of `forward` (without gradients) and `train` (forward and backward).
        dtype: of `fp32`, `fp16`, `bf16` and `fp64`.
        block: of `sagan`, `sagan-official`, `danet` and `nonlocal`.
        reduction: ratio of input channels to query/key channels; each block has its own default.
        strategy: spellings, as `"naive,pooled:2+sdpa-pad"`.
        device: `auto`, `cpu`, `cuda`, `cuda:1` or a `torch.device`.
        gpu: cards to emulate instead of measuring, as `"t4,l4"`, `["t4,memory=8GB", "l4"]` or cards of `cards()`.
        context: memory that the CUDA context of an emulated card takes, as `"300MiB"`.
        budget: memory that a case may use, as `"12GB"` or a number of bytes.
        case_seconds: time for the latency of each case.
        timeout: seconds after which a case is stopped.
        seed: random seed for weights and inputs.
        out: file for the records; a new file in the user's state folder by default.
        resume: whether to continue the file `out`: what it has is not measured again.
        retry: with `resume`, the outcomes that are measured again: of `crashed`, `timed-out`, `out-of-memory` and
            `unsupported`.

    Returns:
        A row for each case, with the columns of `attnprof sweep --csv`.

    Raises:
        AttnprofError: a value means nothing, a device is not here, or the file cannot be resumed or written.
    """
    from attnprof.report.sweep import sweep_page
    from attnprof.studies.sweep import SweepRun

    study = sweep_study(
        hw=hw,
        batch=batch,
        channels=channels,
        mode=mode,
        dtype=dtype,
        block=block,
        reduction=reduction,
        strategy=strategy,
        device=device,
        gpu=gpu,
        context=context,
        budget=budget,
        case_seconds=case_seconds,
        timeout=timeout,
        seed=seed,
        out=out,
        resume=resume,
        retry=retry,
    )
    return _frame(sweep_page(_carried_out(SweepRun(study), CaseProgress)))


def limits(
    vary: str = "hw",
    *,
    hw: Sizes = 64,
    batch: Numbers = 1,
    channels: Numbers = 128,
    aspect: str | SupportsFloat = "1",
    step: SupportsIndex | None = None,
    mode: Names = MODES,
    dtype: Names = "fp32",
    block: Names = "sagan",
    reduction: SupportsIndex | None = None,
    strategy: Names = DEFAULT_STRATEGIES,
    device: str | torch.device = "auto",
    gpu: Cards | None = None,
    context: Bytes | None = None,
    budget: Bytes | None = None,
    timeout: SupportsFloat = 120.0,
    seed: SupportsIndex = 0,
    out: Location | None = None,
    resume: bool = False,
    retry: Names | None = None,
) -> pd.DataFrame:
    """Find the largest map, batch or channel count that fits, for each strategy, by real runs.

    Examples:
        >>> import attnprof
        >>> frame = attnprof.limits(channels=8, mode="forward", strategy="naive", device="cpu", budget="20MB")
        >>> int(frame["smallest_oom"][0] - frame["largest_ok"][0])
        8

    Args:
        vary: the size to search: `hw`, `batch` or `channels`.
        hw: sizes of the map, as in `sweep`; ignored if the map is searched.
        batch: batch sizes; ignored if the batch is searched.
        channels: numbers of input channels; ignored if they are searched.
        aspect: width over height of the maps that are searched, as `"16:9"` or `1.5`.
        step: try only multiples of this number. The default is 1; 8 if maps or channels are searched on a real device.
        mode: as in `sweep`.
        dtype: as in `sweep`.
        block: as in `sweep`.
        reduction: as in `sweep`.
        strategy: as in `sweep`.
        device: as in `sweep`.
        gpu: as in `sweep`.
        context: as in `sweep`.
        budget: memory that a case may use; a CPU needs it, because its memory has no fixed size.
        timeout: seconds after which a probe is stopped.
        seed: as in `sweep`.
        out: as in `sweep`.
        resume: as in `sweep`.
        retry: as in `sweep`.

    Returns:
        A row for each search, with the columns of `attnprof limits --csv`.

    Raises:
        AttnprofError: as in `sweep`; or nothing bounds the search.
    """
    from attnprof.report.limits import limits_page
    from attnprof.studies.limits import LimitsRun

    study = limits_study(
        vary=vary,
        hw=hw,
        batch=batch,
        channels=channels,
        aspect=aspect,
        step=step,
        mode=mode,
        dtype=dtype,
        block=block,
        reduction=reduction,
        strategy=strategy,
        device=device,
        gpu=gpu,
        context=context,
        budget=budget,
        timeout=timeout,
        seed=seed,
        out=out,
        resume=resume,
        retry=retry,
    )
    return _frame(limits_page(_carried_out(LimitsRun(study), SearchProgress)))


def recommend(
    hw: Sizes = 64,
    *,
    batch: Numbers = 1,
    channels: Numbers = 128,
    mode: str = "train",
    dtype: str = "fp32",
    block: str = "sagan",
    reduction: SupportsIndex | None = None,
    strategy: Names = RECOMMENDED_STRATEGIES,
    allow_approximate: bool = False,
    margin: Bytes = "10%",
    device: str | torch.device = "auto",
    gpu: str | Card | None = None,
    context: Bytes | None = None,
    budget: Bytes | None = None,
    timeout: SupportsFloat = 120.0,
    seed: SupportsIndex = 0,
    records: Location | None = None,
    out: Location | None = None,
    resume: bool = False,
    retry: Names | None = None,
) -> Recommendation:
    """Recommend a strategy for one workload on this device, an emulated card or within a budget.

    Examples:
        >>> import attnprof
        >>> answer = attnprof.recommend(
        ...     8, channels=16, mode="forward", strategy="naive,chunked", device="cpu", budget="8MB"
        ... )
        >>> answer.strategy in ("naive", "chunked")
        True
        >>> "SelfAttention2d" in answer.snippet
        True

    Args:
        hw: one size of the feature map, as `64` or `"64x96"`.
        batch: one batch size.
        channels: one number of input channels.
        mode: `forward` or `train`.
        dtype: one data type.
        block: one attention block.
        reduction: as in `sweep`.
        strategy: the candidates.
        allow_approximate: whether approximate strategies can be picked as well.
        margin: memory to keep free for the rest of the model, as `"10%"`, `"1GiB"` or a number of bytes.
        device: as in `sweep`.
        gpu: one card to emulate instead of measuring.
        context: as in `sweep`.
        budget: as in `sweep`.
        timeout: as in `sweep`.
        seed: as in `sweep`.
        records: a file of an earlier sweep to answer from; nothing is run.
        out: as in `sweep`.
        resume: as in `sweep`.
        retry: as in `sweep`.

    Returns:
        The recommendation: `.strategy`, `.pick`, `.ranking` with every candidate, `.snippet` to paste, and `.nearest`
        if nothing fits.

    Raises:
        AttnprofError: as in `sweep`; or several workloads or cards are given.
    """
    study = recommend_study(
        hw=hw,
        batch=batch,
        channels=channels,
        mode=mode,
        dtype=dtype,
        block=block,
        reduction=reduction,
        strategy=strategy,
        allow_approximate=allow_approximate,
        margin=margin,
        device=device,
        gpu=gpu,
        context=context,
        budget=budget,
        timeout=timeout,
        seed=seed,
        records=records,
        out=out,
        resume=resume,
        retry=retry,
    )
    if study.records is not None:
        return recommend_from_file(study, study.records)
    [answer] = _carried_out(RecommendRun(study), CandidateProgress)
    return answer


def profile_model(
    target: str,
    input: str | Iterable[Any],
    *,
    mode: Names = "train",
    dtype: str = "fp32",
    optimizer: str = "adam",
    amp: bool = False,
    checkpointing: bool = False,
    channels_last: bool = False,
    strategy: Names = MODEL_STRATEGIES,
    largest_batch: bool = True,
    device: str | torch.device = "auto",
    gpu: Cards | None = None,
    context: Bytes | None = None,
    budget: Bytes | None = None,
    case_seconds: SupportsFloat = 1.0,
    timeout: SupportsFloat = 300.0,
    seed: SupportsIndex = 0,
    values: bool = True,
    out: Location | None = None,
    resume: bool = False,
    retry: Names | None = None,
) -> tuple[ModelProfile, ...]:
    r"""Measure a whole model, unmodified and with its attention blocks patched.

    The model is named by its place and not given as an object: each case runs in a process of its own, which makes
    the model anew with the same random weights, on a card that may be emulated there only. A live module would carry
    this process's memory and device along.

    Examples:
        >>> import attnprof
        >>> from pathlib import Path
        >>> _ = Path("net.py").write_text("from torch import nn\nnet = nn.Conv2d(3, 8, 3)\n")
        >>> [profile] = attnprof.profile_model(
        ...     "net.py:net", (2, 3, 8, 8), strategy="as-is", device="cpu", largest_batch=False
        ... )
        >>> profile.as_is.measurement.memory.peak_allocated_bytes > 0
        True

    Args:
        target: `PATH.py:NAME` or `package.module:NAME`; NAME is a module, or a class or function that returns one
            when called without arguments.
        input: the shape of each input, batch first: `(8, 3, 256, 256)`, or a list such as
            `[(8, 4, 64, 64), "8:long"]`.
        mode: of `forward` and `train`.
        dtype: of the model's parameters and inputs.
        optimizer: `sgd`, `sgd-momentum`, `adam` or `adamw`; its states count in training.
        amp: whether forward runs in autocast.
        checkpointing: whether to train with gradient checkpointing.
        channels_last: whether images and weights are laid out in channels_last.
        strategy: what to patch the attention blocks with; the unmodified model is always measured.
        largest_batch: whether to search for the largest batch that fits.
        device: as in `sweep`.
        gpu: as in `sweep`.
        context: as in `sweep`.
        budget: as in `sweep`.
        case_seconds: as in `sweep`.
        timeout: as in `sweep`.
        seed: as in `sweep`.
        values: whether small values live on an emulated card; without, everything read from it is zeros.
        out: as in `sweep`.
        resume: as in `sweep`.
        retry: as in `sweep`.

    Returns:
        A profile for each mode on each device.

    Raises:
        AttnprofError: as in `sweep`; or the model cannot be run, with its own error and line.
    """
    study = model_study(
        target,
        input=input,
        mode=mode,
        dtype=dtype,
        optimizer=optimizer,
        amp=amp,
        checkpointing=checkpointing,
        channels_last=channels_last,
        strategy=strategy,
        largest_batch=largest_batch,
        device=device,
        gpu=gpu,
        context=context,
        budget=budget,
        case_seconds=case_seconds,
        timeout=timeout,
        seed=seed,
        values=values,
        out=out,
        resume=resume,
        retry=retry,
    )
    return tuple(_carried_out(ModelRun(study), ModelProgress))


def run_program(
    command: Sequence[Location],
    gpu: str | Card,
    *,
    context: Bytes | None = None,
    values: bool = True,
    plans: str = FIRST,
    stdout: IO[str] | None = None,
) -> ProgramRun:
    """Run any PyTorch program, unchanged, on an emulated card.

    The program's output and input are this process's. Only small values are computed: its losses and images are
    meaningless.

    Examples:
        With `train.py` in this folder, and PyTorch's CUDA build installed:

            run = attnprof.run_program(["python", "train.py"], gpu="t4")
            run.exit_code, run.processes[0].peak.allocated_bytes

    Args:
        command: the program and its arguments.
        gpu: the card, as `"t4"`, `"t4,memory=8GB"` or one of `cards()`.
        context: memory that its CUDA context takes, as `"300MiB"`.
        values: whether small values live on the card; without, everything that the program reads from it is zeros.
        plans: which of cuDNN's plans is the fastest for `torch.backends.cudnn.benchmark`: the `"first"` of its
            heuristics, or that of the `"least"` or `"largest"` workspace. `"range"` runs the program with each.
        stdout: where the program's standard output goes, if not to this process's.

    Returns:
        The program's exit code, and for each of its processes that used torch what held its memory.

    Raises:
        AttnprofError: an unknown card, no such program, or cards cannot be emulated here.
    """
    from attnprof.studies.program import run_program as run

    words = parse_words(command, "command")
    return run(
        parse_one_card(gpu, context),
        words,
        _print_line,
        values=parse_flag(values, "values"),
        plans=parse_choice(plans, "plans", (*ORDERS, RANGE)),
        stdout=stdout,
    )


def cards() -> tuple[Card, ...]:
    """Return every card that can be emulated, in the catalogue's order.

    Examples:
        >>> import attnprof
        >>> attnprof.cards()[0].name
        'Tesla T4'
    """
    return catalogue()


def find_card(spelling: str) -> Card:
    """Return the card of this name, with changes if any are spelled.

    Examples:
        >>> import attnprof
        >>> attnprof.find_card("t4,memory=8GB").total_bytes
        8000000000

    Args:
        spelling: a key or a name of the catalogue, as `"t4"` or `"NVIDIA A100"`, with properties that differ from it,
            as `"t4,memory=8GB,context=300MiB"`.

    Raises:
        AttnprofError: an unknown card; the message names near matches.
    """
    return parse_one_card(spelling)


def _carried_out(run: StudyRun[S, T], progress: Callable[..., StudyProgress]) -> Sequence[T]:
    with progress_on_stderr(progress, run.step_count) as listener:
        run.carry_out(listener)
    return run.results()


def _frame(page: Page) -> pd.DataFrame:
    import pandas as pd

    frame: pd.DataFrame = pd.DataFrame(list(page.rows), columns=list(page.columns))
    return frame


def _print_line(text: str) -> None:
    import sys

    sys.stderr.write(harmless(text) + "\n")
