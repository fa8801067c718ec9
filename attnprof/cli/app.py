"""The command line: the root, and the commands of the other modules under it.

Exit codes: 0 done, 1 nothing could be measured, 2 bad input, 3 nothing fits (`recommend`), 130 interrupted (143
terminated); `run` ends with its program's own.
"""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer

from attnprof.cli.listings import listings_app
from attnprof.cli.options import examples
from attnprof.cli.records import records_app
from attnprof.cli.streams import reserve_standard_files
from attnprof.cli.study_commands import studies_app
from attnprof.cli.terminal import run_app, write_text
from attnprof.version import __version__

app = typer.Typer(
    help="What 2-D self-attention costs on your GPU, and which variant to use instead.",
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        "attnprof sweep --hw 64 --channels 128",
        "attnprof recommend --gpu t4 --hw 64 --batch 16",
        "attnprof model net.py:Net --input 8,3,256,256 --gpu t4",
    ),
)
app.add_typer(studies_app)
app.add_typer(listings_app)
app.add_typer(records_app, name="records")


def main() -> NoReturn:
    """Run the command."""
    reserve_standard_files()
    sys.exit(run_app(app))


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        write_text(f"{__version__}\n")
        raise typer.Exit
    if context.invoked_subcommand is None:
        write_text(f"{context.get_help()}\n")
