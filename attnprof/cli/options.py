"""The options that several commands have, with their help, and how examples stand at the end of a command's help.

Numbers are text here: `attnprof.cases.parsing` reads every value, so that all errors have one form.
"""

from __future__ import annotations

from typing import Annotated

import typer

from attnprof.attention.blocks.catalogue import BLOCKS
from attnprof.cases.plan import DEFAULT_STRATEGIES, RECOMMENDED_STRATEGIES
from attnprof.cases.workload import DTYPES, MODES
from attnprof.cli.completion import (
    complete_blocks,
    complete_cards,
    complete_dtypes,
    complete_modes,
    complete_strategies,
    completer_of,
)
from attnprof.cli.outputs import FORMATS
from attnprof.emulation.plan_orders import ORDERS, RANGE
from attnprof.studies.requests import MODEL_STRATEGIES, RETRIED

# The panels of a command's help.
WORKLOAD, STRATEGIES, DEVICE, MEASURING, OUTPUT = "Workload", "Strategies", "Device", "Measuring", "Output"

# The space lets a help text break a list over lines.
DEFAULT_MODES = ", ".join(MODES)
SWEPT_STRATEGIES = ", ".join(DEFAULT_STRATEGIES)
CANDIDATES = ", ".join(RECOMMENDED_STRATEGIES)
RETRIED_NAMES = ", ".join(RETRIED)
PATCHED_STRATEGIES = ", ".join(MODEL_STRATEGIES)

Strategy = Annotated[
    str,
    typer.Option(
        metavar="LIST",
        help="Strategies, separated by commas. Join parts with +, as in pooled:2+sdpa-pad. attnprof strategies "
        "lists them.",
        rich_help_panel=STRATEGIES,
        autocompletion=complete_strategies,
    ),
]
Block = Annotated[
    str,
    typer.Option(
        metavar="LIST",
        help=f"Attention blocks: {', '.join(form.name for form in BLOCKS)}. attnprof blocks describes them.",
        rich_help_panel=WORKLOAD,
        autocompletion=complete_blocks,
    ),
]
Mode = Annotated[
    str,
    typer.Option(
        metavar="LIST",
        help="forward (without gradients), train (forward and backward), or both.",
        rich_help_panel=WORKLOAD,
        autocompletion=complete_modes,
    ),
]
Dtype = Annotated[
    str,
    typer.Option(
        metavar="LIST",
        help=f"Data types: {', '.join(DTYPES)}.",
        rich_help_panel=WORKLOAD,
        autocompletion=complete_dtypes,
    ),
]
Reduction = Annotated[
    str | None,
    typer.Option(
        metavar="RATIO",
        help="Ratio of input channels to query/key channels (C / E). Each block has its own default.",
        show_default="8; nonlocal: 2",
        rich_help_panel=WORKLOAD,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        metavar="DEVICE",
        help="Device to measure on: cpu, cuda or cuda:1. auto takes a CUDA card if there is one.",
        rich_help_panel=DEVICE,
        autocompletion=completer_of(("auto", "cpu", "cuda")),
    ),
]
Gpu = Annotated[
    str | None,
    typer.Option(
        metavar="LIST",
        help="Emulate these cards instead of measuring, as t4,l4 or t4,memory=8GB. Memory is exact; nothing is "
        "computed. attnprof gpus lists them.",
        rich_help_panel=DEVICE,
        autocompletion=complete_cards,
    ),
]
Context = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="With --gpu: memory that the CUDA context takes, as 300MiB.",
        show_default="the catalogue's allowance for the card",
        rich_help_panel=DEVICE,
    ),
]
Budget = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Memory that a case may use, as 12GB or 800MiB.",
        show_default="what the device has free",
        rich_help_panel=DEVICE,
    ),
]
CaseSeconds = Annotated[
    str,
    typer.Option(
        metavar="SECONDS",
        help="Time for the latency of each case. A case whose steps are slow takes longer.",
        rich_help_panel=MEASURING,
    ),
]
Timeout = Annotated[
    str,
    typer.Option(metavar="SECONDS", help="Stop a case after this time.", rich_help_panel=MEASURING),
]
Seed = Annotated[str, typer.Option(metavar="N", help="Random seed for weights and inputs.", rich_help_panel=MEASURING)]
Out = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="File for the records, one JSON line for each case.",
        show_default="a new file in your state folder",
        rich_help_panel=OUTPUT,
    ),
]
Values = Annotated[
    bool,
    typer.Option(
        help="Compute small values on the host, so that what is read from an emulated card is true where possible.",
        rich_help_panel=DEVICE,
    ),
]
Plans = Annotated[
    str,
    typer.Option(
        metavar="ORDER",
        help="Which of cuDNN's plans is the fastest for cudnn.benchmark: the first of its heuristics, or that of the "
        "least or largest workspace. range runs the program with each.",
        rich_help_panel=DEVICE,
        autocompletion=completer_of((*ORDERS, RANGE)),
    ),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume", help="Continue the file of --out: what it has is not measured again.", rich_help_panel=OUTPUT
    ),
]
Retry = Annotated[
    str | None,
    typer.Option(
        metavar="LIST",
        help=f"With --resume: measure again the cases that ended so: {RETRIED_NAMES}.",
        show_default=False,
        rich_help_panel=OUTPUT,
        autocompletion=completer_of(RETRIED),
    ),
]
Csv = Annotated[str | None, typer.Option(metavar="FILE", help="Also write a CSV file.", rich_help_panel=OUTPUT)]
Force = Annotated[
    bool,
    typer.Option("--force", help="Let --csv replace a file that attnprof did not write.", rich_help_panel=OUTPUT),
]
Format = Annotated[
    str,
    typer.Option(
        metavar="FORMAT",
        help=f"Format of the result on stdout: {', '.join(FORMATS)}.",
        rich_help_panel=OUTPUT,
        autocompletion=completer_of(FORMATS),
    ),
]


def examples(*lines: str) -> str:
    """Return the examples of a command for the end of its help; an empty line keeps each on its own."""
    return "\n\n".join(["Examples:", *lines])
