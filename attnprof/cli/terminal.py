"""The meeting of a command and its user: prints to stdout and stderr, and turns errors into exit codes."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from attnprof.errors import AttnprofError

if TYPE_CHECKING:
    from rich.console import Console

    from attnprof.report.page import Page

# typer does not export the base of its usage errors, which is click's or, since typer 0.2x, its own copy of click's.
_UsageError: type[Any] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "UsageError")


class Interrupted(BaseException):
    """A signal other than Ctrl-C's that ends the command.

    Args:
        exit_code: 128 and the signal's number.
    """

    def __init__(self, exit_code: int) -> None:
        self.exit_code = exit_code


def run_app(app: typer.Typer) -> int:
    """Run the command line and return its exit code; every error is one line on stderr."""
    signal.signal(signal.SIGTERM, _raise_interrupted)
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except AttnprofError as error:
        code = _fail(str(error), error.exit_code)
    except _UsageError as error:
        code = _fail(error.format_message(), 2)
    except Interrupted as interrupted:
        code = interrupted.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except BrokenPipeError:
        # The reader has gone (`| head`): nothing more to say, and nothing for Python to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    return code or 0


def console() -> Console:
    """Return rich's console for stdout."""
    from rich.console import Console

    return Console(highlight=False)


def write(page: Page, format: str) -> None:
    """Write a report to stdout in one of `outputs.FORMATS`."""
    if format == "table":
        console().print(page.table())
    else:
        sys.stdout.write({"csv": page.csv, "json": page.json, "markdown": page.markdown}[format]())


def note(text: str) -> None:
    """Print a line on stderr, so that stdout contains data only."""
    sys.stderr.write(text + "\n")


def _raise_interrupted(number: int, _: object) -> NoReturn:
    """Handle a signal."""
    raise Interrupted(128 + number)


def _fail(message: str, code: int) -> int:
    """Print the one line of an error; return the exit code."""
    note(f"attnprof: {message}")
    return code
