"""The commands without a study: listings, code to paste, and the state of this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from attnprof.attention.blocks.catalogue import BLOCKS
from attnprof.cli.completion import complete_blocks, complete_strategies
from attnprof.cli.options import Format, examples
from attnprof.cli.outputs import require_output
from attnprof.cli.terminal import Interrupted, note, write, write_text
from attnprof.errors import AttnprofError

listings_app = typer.Typer()


@listings_app.command(epilog=examples("attnprof snippet sdpa-pad", "attnprof snippet chunked --block danet"))
def snippet(
    strategy: Annotated[
        str,
        typer.Argument(
            metavar="STRATEGY",
            help="One strategy, such as sdpa-pad or pooled:2+sdpa-pad.",
            autocompletion=complete_strategies,
        ),
    ],
    block: Annotated[
        str,
        typer.Option(
            metavar="BLOCK",
            help=f"Your attention block: {', '.join(form.name for form in BLOCKS)}.",
            autocompletion=complete_blocks,
        ),
    ] = "sagan",
) -> None:
    """Print code that replaces your attention block with a strategy, keeping its weights."""
    from attnprof.attention.blocks.catalogue import BlockError
    from attnprof.attention.strategy import StrategyError
    from attnprof.studies.recommend.snippet import snippet as code_for

    try:
        write_text(f"{code_for(strategy, block)}\n")
    except (StrategyError, BlockError) as error:
        raise AttnprofError(str(error)) from None


@listings_app.command(epilog=examples("attnprof gpus", "attnprof gpus --format csv > gpus.csv"))
def gpus(format: Format = "table") -> None:
    """List the GPUs that --gpu can emulate."""
    from attnprof.cases.cards import catalogue
    from attnprof.report.gpus import cards_page

    require_output(format)
    write(cards_page(catalogue()), format)


@listings_app.command(epilog=examples("attnprof strategies", "attnprof strategies --format json"))
def strategies(format: Format = "table") -> None:
    """List the strategies: what each part computes, how its memory grows, and where it runs."""
    from attnprof.attention.strategy import COMPONENTS
    from attnprof.report.strategies import strategies_page

    require_output(format)
    write(strategies_page(COMPONENTS), format)


@listings_app.command(epilog=examples("attnprof blocks", "attnprof blocks --format markdown"))
def blocks(format: Format = "table") -> None:
    """List the attention blocks of the papers that --block names."""
    from attnprof.report.blocks import blocks_page

    require_output(format)
    write(blocks_page(BLOCKS), format)


@listings_app.command(epilog=examples("attnprof doctor", "attnprof doctor --format json > doctor.json"))
def doctor(format: Format = "table") -> None:
    """Check what works on this machine, and say what to do about the rest.

    Looks at torch, the device, its memory and kernels, and tries a step on an emulated card.
    """
    from attnprof.report.doctor import doctor_page
    from attnprof.studies.doctor import Finding, examine

    require_output(format)
    found: list[Finding] = []
    try:
        for finding in examine(note):
            found.append(finding)
    except (KeyboardInterrupt, Interrupted):
        if found:
            write(doctor_page(found), format)
        note("stopped before everything was examined")
        raise
    write(doctor_page(found), format)
