"""The commands and their options: with `commands` and `terminal`, the only place that prints results and exits.

Exit codes: 0 done, 1 measuring failed, 2 bad input, 3 nothing fits (`recommend`), 130 interrupted (143
terminated); `run` ends with its program's own.
"""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer

from attnprof.attention.blocks.catalogue import BLOCKS
from attnprof.cases.workload import DTYPES, OPTIMIZERS
from attnprof.cli import commands
from attnprof.cli.terminal import FORMATS, note, require_output, run_app, write
from attnprof.errors import AttnprofError
from attnprof.studies.requests import LimitsRequest, ModelRequest, RecommendRequest, SweepRequest
from attnprof.version import __version__

# Options that several commands have.
_Strategy = Annotated[str, typer.Option(help="Strategies, parts joined by +, such as pooled:2+sdpa-pad+fp16.")]
_Mode = Annotated[str, typer.Option(help="forward, train or both.")]
_Dtype = Annotated[str, typer.Option(help=f"Of {', '.join(DTYPES)}.")]
_Block = Annotated[str, typer.Option(help=f"Of {', '.join(form.name for form in BLOCKS)}.")]
_Reduction = Annotated[
    int | None, typer.Option(help="Channels over query and key channels.", show_default="8; nonlocal: 2")
]
_Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")]
_Gpu = Annotated[str | None, typer.Option(help="Emulate these cards instead (memory only): t4,l4 or t4,memory=8GB.")]
_Context = Annotated[
    str | None, typer.Option(help="With --gpu: allowance for what the CUDA context takes, such as 300MiB.")
]
_Budget = Annotated[str | None, typer.Option(help="Memory that a case may take, such as 12GB or 800MiB.")]
_Timeout = Annotated[float, typer.Option(help="Seconds after which a case is given up.")]
_Seed = Annotated[int, typer.Option(help="Of weights and inputs.")]
_Out = Annotated[
    str | None, typer.Option(help="Records, a JSON line a case.", show_default="a new file in the state folder")
]
_Resume = Annotated[bool, typer.Option("--resume", help="Continue the file given by --out.")]
_Csv = Annotated[str | None, typer.Option(help="Also write a CSV file.")]
_Format = Annotated[str, typer.Option(help=f"What goes to stdout: {', '.join(FORMATS)}.")]

app = typer.Typer(
    help="What 2-D self-attention costs on your GPU, and which variant to use instead.",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> NoReturn:
    """Run the command."""
    sys.exit(run_app(app))


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def sweep(
    hw: Annotated[str, typer.Option(help="Feature-map sizes: 64 or 64x96, separated by commas.")] = SweepRequest.hw,
    batch: Annotated[str, typer.Option(help="Batch sizes.")] = SweepRequest.batch,
    channels: Annotated[str, typer.Option(help="Channel counts.")] = SweepRequest.channels,
    strategy: _Strategy = SweepRequest.strategy,
    block: _Block = SweepRequest.block,
    mode: _Mode = SweepRequest.mode,
    dtype: _Dtype = SweepRequest.dtype,
    reduction: _Reduction = SweepRequest.reduction,
    device: _Device = SweepRequest.device,
    gpu: _Gpu = SweepRequest.gpu,
    context: _Context = SweepRequest.context,
    budget: _Budget = SweepRequest.budget,
    case_seconds: Annotated[
        float, typer.Option(help="Seconds for the latency of a case; more for slow ones.")
    ] = SweepRequest.case_seconds,
    timeout: _Timeout = SweepRequest.timeout,
    seed: _Seed = SweepRequest.seed,
    out: _Out = SweepRequest.out,
    resume: _Resume = False,
    csv: _Csv = None,
    format: _Format = "table",
) -> None:
    """Measure peak memory, latency and exactness of every strategy on this machine.

    Or, with --gpu, the memory alone on cards that are not there. Sweeps all combinations of the given
    values, the smallest first.
    """
    options = {name: value for name, value in locals().items() if name not in ("csv", "format")}
    require_output(format, csv)
    commands.sweep(SweepRequest(**options), csv, format)


@app.command()
def limits(
    vary: Annotated[str, typer.Option(help="What to search: hw, batch or channels.")] = LimitsRequest.vary,
    hw: Annotated[str, typer.Option(help="Feature-map sizes, unless they vary.")] = LimitsRequest.hw,
    batch: Annotated[str, typer.Option(help="Batch sizes, unless they vary.")] = LimitsRequest.batch,
    channels: Annotated[str, typer.Option(help="Channel counts, unless they vary.")] = LimitsRequest.channels,
    aspect: Annotated[str, typer.Option(help="Width over height, as 16:9.")] = LimitsRequest.aspect,
    step: Annotated[
        int | None, typer.Option(help="Sizes are its multiples.", show_default="1; 8 where hw is measured")
    ] = LimitsRequest.step,
    strategy: _Strategy = LimitsRequest.strategy,
    block: _Block = LimitsRequest.block,
    mode: _Mode = LimitsRequest.mode,
    dtype: _Dtype = LimitsRequest.dtype,
    reduction: _Reduction = LimitsRequest.reduction,
    device: _Device = LimitsRequest.device,
    gpu: _Gpu = LimitsRequest.gpu,
    context: _Context = LimitsRequest.context,
    budget: _Budget = LimitsRequest.budget,
    timeout: _Timeout = LimitsRequest.timeout,
    seed: _Seed = LimitsRequest.seed,
    out: _Out = LimitsRequest.out,
    resume: _Resume = False,
    csv: _Csv = None,
    format: _Format = "table",
) -> None:
    """Find the largest map, batch or channel count that fits, for each strategy.

    By real runs, bracketed: the answer has the largest that ran and the smallest that did not.
    """
    options = {name: value for name, value in locals().items() if name not in ("csv", "format")}
    require_output(format, csv)
    commands.limits(LimitsRequest(**options), csv, format)


@app.command()
def recommend(
    hw: Annotated[str, typer.Option(help="Feature-map size: 64 or 64x96.")] = RecommendRequest.hw,
    batch: Annotated[str, typer.Option(help="Batch size.")] = RecommendRequest.batch,
    channels: Annotated[str, typer.Option(help="Channel count.")] = RecommendRequest.channels,
    mode: Annotated[str, typer.Option(help="forward or train.")] = RecommendRequest.mode,
    dtype: _Dtype = RecommendRequest.dtype,
    margin: Annotated[str, typer.Option(help="What is to stay free: 10% or 1GiB.")] = RecommendRequest.margin,
    allow_approximate: Annotated[
        bool, typer.Option("--allow-approximate", help="Rank what is not exact with the exact.")
    ] = RecommendRequest.allow_approximate,
    records: Annotated[
        str | None, typer.Option("--from", help="Answer from a file of records; run nothing.")
    ] = RecommendRequest.records,
    strategy: _Strategy = RecommendRequest.strategy,
    block: _Block = RecommendRequest.block,
    reduction: _Reduction = RecommendRequest.reduction,
    device: _Device = RecommendRequest.device,
    gpu: _Gpu = RecommendRequest.gpu,
    context: _Context = RecommendRequest.context,
    budget: _Budget = RecommendRequest.budget,
    timeout: _Timeout = RecommendRequest.timeout,
    seed: _Seed = RecommendRequest.seed,
    out: _Out = RecommendRequest.out,
    resume: _Resume = False,
    format: _Format = "table",
) -> None:
    """Say which variant to use for a workload on this device, a card or within a budget, and why.

    Runs every candidate here, or with --gpu on an emulated card. Exit code 3: nothing fits.
    """
    options = {name: value for name, value in locals().items() if name != "format"}
    require_output(format)
    commands.recommend(RecommendRequest(**options), format)


@app.command(context_settings={"allow_interspersed_args": False})
def run(
    gpu: Annotated[str, typer.Option(help="The card: t4, or t4,memory=8GB.")],
    command: Annotated[list[str] | None, typer.Argument(help="The program and its arguments.")] = None,
    context: _Context = None,
    format: _Format = "table",
) -> None:
    """Run any PyTorch program, unchanged, on an emulated card: attnprof run --gpu t4 -- python train.py

    Says its peak memory and who held it, the line where it runs out of memory, and what emulation cannot follow.
    Nothing is computed. The exit code is the program's own (128 and a signal's number, where one ended it).
    """
    require_output(format)
    if not command:
        raise AttnprofError("run: name a program after the options, as in attnprof run --gpu t4 -- python train.py")
    commands.run(gpu, context, command, format)


@app.command()
def model(
    target: Annotated[str, typer.Argument(help="PATH.py:NAME or package.module:NAME, a model or what makes one.")],
    input: Annotated[
        list[str], typer.Option(help="Shape of an input, batch first: 8,3,256,256; 8,77:long. Once for each.")
    ] = [],  # noqa: B006 - typer's own way; it makes a new one for each call
    strategy: Annotated[
        str, typer.Option(help="What to patch the attention blocks with; as-is is always there.")
    ] = ModelRequest.strategy,
    mode: _Mode = ModelRequest.mode,
    optimizer: Annotated[str, typer.Option(help=f"Of {', '.join(OPTIMIZERS)}.")] = ModelRequest.optimizer,
    dtype: _Dtype = ModelRequest.dtype,
    amp: Annotated[bool, typer.Option("--amp", help="Forward in autocast.")] = False,
    checkpointing: Annotated[bool, typer.Option("--checkpointing", help="Gradient checkpointing.")] = False,
    channels_last: Annotated[bool, typer.Option("--channels-last", help="Maps in channels_last.")] = False,
    largest_batch: Annotated[bool, typer.Option(help="Look for the largest batch that fits.")] = True,
    device: _Device = ModelRequest.device,
    gpu: _Gpu = ModelRequest.gpu,
    context: _Context = ModelRequest.context,
    budget: _Budget = ModelRequest.budget,
    case_seconds: Annotated[float, typer.Option(help="Seconds for the latency of a case.")] = ModelRequest.case_seconds,
    timeout: _Timeout = ModelRequest.timeout,
    seed: _Seed = ModelRequest.seed,
    out: _Out = ModelRequest.out,
    resume: _Resume = False,
    csv: _Csv = None,
    format: _Format = "table",
) -> None:
    """Measure your own whole model, as it is and with its attention blocks patched.

    Peak memory and what holds it, latency where that can be measured, the largest batch, and what patching
    would save; in training with gradients and optimizer state.
    """
    options = {name: value for name, value in locals().items() if name not in ("csv", "format", "input")}
    require_output(format, csv)
    commands.model(ModelRequest(input=tuple(input), **options), csv, format)


@app.command()
def snippet(
    strategy: Annotated[str, typer.Argument(help="As --strategy takes it, such as sdpa-pad.")],
    block: _Block = "sagan",
) -> None:
    """Print code that puts a strategy in the place of your block, with its weights."""
    from attnprof.attention.blocks.catalogue import BlockError
    from attnprof.attention.strategy import StrategyError
    from attnprof.studies.recommend.snippet import snippet as code_for

    try:
        typer.echo(code_for(strategy, block))
    except (StrategyError, BlockError) as error:
        raise AttnprofError(str(error)) from None


@app.command()
def gpus(format: _Format = "table") -> None:
    """List the GPUs that --gpu can emulate."""
    from attnprof.cases.cards import catalogue
    from attnprof.report.gpus import cards_page

    require_output(format)
    write(cards_page(catalogue()), format)


@app.command()
def strategies(format: _Format = "table") -> None:
    """List what --strategy takes: what each part computes, its memory, and where it runs."""
    from attnprof.attention.strategy import COMPONENTS
    from attnprof.report.strategies import strategies_page

    require_output(format)
    write(strategies_page(COMPONENTS), format)


@app.command()
def blocks(format: _Format = "table") -> None:
    """List what --block takes: the attention blocks of the papers."""
    from attnprof.report.blocks import blocks_page

    require_output(format)
    write(blocks_page(BLOCKS), format)


@app.command()
def doctor(format: _Format = "table") -> None:
    """Say what attnprof can do here: torch, the device, its memory and kernels, emulation; and what to do about it."""
    from attnprof.report.doctor import doctor_page
    from attnprof.studies.doctor import examine

    require_output(format)
    write(doctor_page(list(examine(note))), format)
