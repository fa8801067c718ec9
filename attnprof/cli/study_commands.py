"""The commands that measure: each reads its options into a study and hands it to `commands`."""

from __future__ import annotations

from typing import Annotated

import typer

from attnprof.attention.blocks.catalogue import BLOCKS
from attnprof.cases.case import AS_IS
from attnprof.cases.parsing import parse_choice, parse_one_card
from attnprof.cases.workload import DTYPES, OPTIMIZERS
from attnprof.cli import commands
from attnprof.cli.completion import (
    complete_blocks,
    complete_cards,
    complete_dtypes,
    complete_modes,
    complete_optimizers,
    complete_strategies,
    completer_of,
)
from attnprof.cli.options import (
    CANDIDATES,
    DEFAULT_MODES,
    DEVICE,
    MEASURING,
    OUTPUT,
    PATCHED_STRATEGIES,
    STRATEGIES,
    SWEPT_STRATEGIES,
    WORKLOAD,
    Block,
    Budget,
    CaseSeconds,
    Context,
    Csv,
    Device,
    Dtype,
    Force,
    Format,
    Gpu,
    Mode,
    Out,
    Plans,
    Reduction,
    Resume,
    Retry,
    Seed,
    Strategy,
    Timeout,
    Values,
    examples,
)
from attnprof.cli.outputs import require_output
from attnprof.emulation.plan_orders import FIRST, ORDERS, RANGE
from attnprof.errors import AttnprofError
from attnprof.studies.model_plan import model_path
from attnprof.studies.requests import limits_study, model_study, recommend_study, sweep_study

studies_app = typer.Typer()


@studies_app.command(
    epilog=examples(
        "attnprof sweep --hw 32,64 --batch 1,8",
        "attnprof sweep --gpu t4,l4 --hw 128 --mode train",
        "attnprof sweep --strategy naive,sdpa-pad --csv out.csv",
    )
)
def sweep(
    hw: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="Sizes of the feature map, height x width: 64 (for 64x64) or 64x96.",
            rich_help_panel=WORKLOAD,
        ),
    ] = "32,64",
    batch: Annotated[str, typer.Option(metavar="LIST", help="Batch sizes.", rich_help_panel=WORKLOAD)] = "1",
    channels: Annotated[
        str, typer.Option(metavar="LIST", help="Numbers of input channels.", rich_help_panel=WORKLOAD)
    ] = "128",
    mode: Mode = DEFAULT_MODES,
    dtype: Dtype = "fp32",
    block: Block = "sagan",
    reduction: Reduction = None,
    strategy: Strategy = SWEPT_STRATEGIES,
    device: Device = "auto",
    gpu: Gpu = None,
    context: Context = None,
    budget: Budget = None,
    case_seconds: CaseSeconds = "1.0",
    timeout: Timeout = "300.0",
    seed: Seed = "0",
    out: Out = None,
    resume: Resume = False,
    retry: Retry = None,
    csv: Csv = None,
    force: Force = False,
    format: Format = "table",
) -> None:
    """Measure peak memory, latency and exactness of every strategy on this machine.

    With --gpu, get the memory alone, exact to the byte, on cards that you do not have. Every combination of the
    given values is a case; the smallest run first.
    """
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
    commands.sweep(study, require_output(format, csv, force=force, files={"out": study.path}))


@studies_app.command(
    epilog=examples(
        "attnprof limits --gpu t4 --mode train",
        "attnprof limits --gpu t4 --vary batch --hw 64",
        "attnprof limits --budget 4GB --aspect 16:9",
    )
)
def limits(
    vary: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="The size to search: hw, batch or channels.",
            rich_help_panel=WORKLOAD,
            autocompletion=completer_of(("hw", "batch", "channels")),
        ),
    ] = "hw",
    hw: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="Sizes of the feature map, 64 or 64x96; ignored if hw is searched.",
            rich_help_panel=WORKLOAD,
        ),
    ] = "64",
    batch: Annotated[
        str, typer.Option(metavar="LIST", help="Batch sizes; ignored if searched.", rich_help_panel=WORKLOAD)
    ] = "1",
    channels: Annotated[
        str,
        typer.Option(metavar="LIST", help="Numbers of channels; ignored if searched.", rich_help_panel=WORKLOAD),
    ] = "128",
    aspect: Annotated[
        str,
        typer.Option(
            metavar="RATIO", help="Width over height of the maps searched, as 16:9 or 1.5.", rich_help_panel=WORKLOAD
        ),
    ] = "1",
    step: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Try only multiples of this number.",
            show_default="1; 8 if hw or channels are searched on a real device",
            rich_help_panel=WORKLOAD,
        ),
    ] = None,
    mode: Mode = DEFAULT_MODES,
    dtype: Dtype = "fp32",
    block: Block = "sagan",
    reduction: Reduction = None,
    strategy: Strategy = SWEPT_STRATEGIES,
    device: Device = "auto",
    gpu: Gpu = None,
    context: Context = None,
    budget: Budget = None,
    timeout: Timeout = "120.0",
    seed: Seed = "0",
    out: Out = None,
    resume: Resume = False,
    retry: Retry = None,
    csv: Csv = None,
    force: Force = False,
    format: Format = "table",
) -> None:
    """Find the largest map, batch or channel count that fits, for each strategy.

    The answer comes from real runs: the largest size that ran and the smallest that did not. A CPU needs --budget,
    because its memory has no fixed size.
    """
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
    commands.limits(study, require_output(format, csv, force=force, files={"out": study.path}))


@studies_app.command(
    epilog=examples(
        "attnprof recommend --gpu t4 --hw 64 --batch 16",
        "attnprof recommend --budget 8GB --margin 1GiB",
        "attnprof recommend --from sweep.jsonl --hw 64",
    )
)
def recommend(
    hw: Annotated[
        str, typer.Option(metavar="SIZE", help="Size of the feature map, 64 or 64x96.", rich_help_panel=WORKLOAD)
    ] = "64",
    batch: Annotated[str, typer.Option(metavar="N", help="Batch size.", rich_help_panel=WORKLOAD)] = "1",
    channels: Annotated[
        str, typer.Option(metavar="N", help="Number of input channels.", rich_help_panel=WORKLOAD)
    ] = "128",
    mode: Annotated[
        str,
        typer.Option(
            metavar="MODE",
            help="forward (without gradients) or train (forward and backward).",
            rich_help_panel=WORKLOAD,
            autocompletion=complete_modes,
        ),
    ] = "train",
    dtype: Annotated[
        str,
        typer.Option(
            metavar="DTYPE",
            help=f"Data type: {', '.join(DTYPES)}.",
            rich_help_panel=WORKLOAD,
            autocompletion=complete_dtypes,
        ),
    ] = "fp32",
    block: Annotated[
        str,
        typer.Option(
            metavar="BLOCK",
            help=f"Attention block: {', '.join(form.name for form in BLOCKS)}.",
            rich_help_panel=WORKLOAD,
            autocompletion=complete_blocks,
        ),
    ] = "sagan",
    reduction: Reduction = None,
    strategy: Strategy = CANDIDATES,
    allow_approximate: Annotated[
        bool,
        typer.Option(
            "--allow-approximate",
            help="Let approximate strategies be picked as well, such as pooled keys or lower precision.",
            rich_help_panel=STRATEGIES,
        ),
    ] = False,
    margin: Annotated[
        str,
        typer.Option(
            metavar="SIZE",
            help="Memory to keep free for the rest of your model: 10% or 1GiB.",
            rich_help_panel=DEVICE,
        ),
    ] = "10%",
    device: Device = "auto",
    gpu: Annotated[
        str | None,
        typer.Option(
            metavar="CARD",
            help="Emulate this card instead of measuring, as t4 or t4,memory=8GB. attnprof gpus lists them.",
            rich_help_panel=DEVICE,
            autocompletion=complete_cards,
        ),
    ] = None,
    context: Context = None,
    budget: Budget = None,
    timeout: Timeout = "120.0",
    seed: Seed = "0",
    records: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="Answer from the records of an earlier sweep, and run nothing.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    out: Out = None,
    resume: Resume = False,
    retry: Retry = None,
    format: Format = "table",
) -> None:
    """Recommend a strategy for one workload, on this device, a card or within a budget.

    Every candidate is run here or, with --gpu, on an emulated card. The answer explains why each other candidate is
    not the pick, and ends with code to paste. Exit code 3 means that nothing fits.
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
    files = {"out": study.path} if study.records is None else {"from": study.records}
    commands.recommend(study, require_output(format, files=files))


@studies_app.command(
    epilog=examples(
        "attnprof model net.py:Net --input 8,3,256,256 --gpu t4",
        "attnprof model my.package:make --input 2,4,64,64 --amp",
        "attnprof model net.py:Net --input 8,77:long --mode forward",
    )
)
def model(
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="PATH.py:NAME or package.module:NAME, where NAME is a module, or a class or function that makes one "
            "when called without arguments.",
        ),
    ],
    input: Annotated[
        list[str],
        typer.Option(
            metavar="SHAPE",
            help="Shape of an input, batch first: 8,3,256,256, or 8,77:long for whole numbers. Repeat it for each "
            "input.",
            show_default=False,
            rich_help_panel=WORKLOAD,
        ),
    ] = [],  # noqa: B006 - typer's own way; it makes a new one for each call
    mode: Mode = "train",
    dtype: Annotated[
        str,
        typer.Option(
            metavar="DTYPE",
            help=f"Data type of the model and its inputs: {', '.join(DTYPES)}.",
            rich_help_panel=WORKLOAD,
            autocompletion=complete_dtypes,
        ),
    ] = "fp32",
    optimizer: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help=f"Optimizer whose states count in training: {', '.join(OPTIMIZERS)}.",
            rich_help_panel=WORKLOAD,
            autocompletion=complete_optimizers,
        ),
    ] = "adam",
    amp: Annotated[bool, typer.Option("--amp", help="Run forward in autocast.", rich_help_panel=WORKLOAD)] = False,
    checkpointing: Annotated[
        bool,
        typer.Option("--checkpointing", help="Train with gradient checkpointing.", rich_help_panel=WORKLOAD),
    ] = False,
    channels_last: Annotated[
        bool,
        typer.Option("--channels-last", help="Lay images and weights out in channels_last.", rich_help_panel=WORKLOAD),
    ] = False,
    strategy: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help=f"Strategies to patch the attention blocks with, separated by commas. {AS_IS}, the unmodified "
            "model, is always measured.",
            rich_help_panel=STRATEGIES,
            autocompletion=complete_strategies,
        ),
    ] = PATCHED_STRATEGIES,
    largest_batch: Annotated[
        bool, typer.Option(help="Search for the largest batch that fits.", rich_help_panel=MEASURING)
    ] = True,
    device: Device = "auto",
    gpu: Gpu = None,
    context: Context = None,
    budget: Budget = None,
    case_seconds: CaseSeconds = "1.0",
    timeout: Timeout = "300.0",
    seed: Seed = "0",
    values: Values = True,
    out: Out = None,
    resume: Resume = False,
    retry: Retry = None,
    csv: Csv = None,
    force: Force = False,
    format: Format = "table",
) -> None:
    """Measure your own whole model, unmodified and with its attention blocks patched.

    Shows peak memory and what holds it, latency on a real device, the largest batch that fits, and what patching
    would save. Training counts gradients and optimizer states.
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
    files = {"out": study.path, **({"model": path} if (path := model_path(target)) else {})}
    commands.model(study, require_output(format, csv, force=force, files=files))


@studies_app.command(
    context_settings={"allow_interspersed_args": False},
    epilog=examples(
        "attnprof run --gpu t4 -- python train.py --epochs 1",
        "attnprof run --gpu t4,memory=8GB -- python train.py",
        "attnprof run --gpu l4 --format json -- python train.py",
    ),
)
def run(
    gpu: Annotated[
        str,
        typer.Option(
            metavar="CARD",
            help="The card to emulate, as t4 or t4,memory=8GB.",
            rich_help_panel=DEVICE,
            autocompletion=complete_cards,
        ),
    ],
    command: Annotated[
        list[str] | None, typer.Argument(metavar="PROGRAM...", help="The program and its arguments, after --.")
    ] = None,
    context: Context = None,
    values: Values = True,
    plans: Plans = FIRST,
    format: Format = "table",
) -> None:
    """Run any PyTorch program, unchanged, on an emulated card.

    Reports the program's peak memory and what held it, the line that runs out of memory, and what emulation cannot
    follow. Only small values are computed: losses and images are meaningless. The exit code is the program's own, or
    128 plus the number of the signal that ended it.
    """
    output = require_output(format)
    if not command:
        raise AttnprofError("run: name a program after the options, as in attnprof run --gpu t4 -- python train.py")
    commands.run(
        parse_one_card(gpu, context),
        command,
        output,
        values=values,
        plans=parse_choice(plans, "plans", (*ORDERS, RANGE)),
    )
