"""The meeting of a command and its user: prints to stdout and stderr, and turns errors into exit codes."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from attnprof.cli.streams import ReaderGoneError, guarded_streams
from attnprof.cli.usage_errors import usage_message
from attnprof.errors import AttnprofError
from attnprof.text import harmless, shortened

if TYPE_CHECKING:
    from rich.console import Console

    from attnprof.report.page import Page

# Tables are made for this many columns at least; a narrower terminal breaks the lines itself.
_LEAST_COLUMNS, _MOST_COLUMNS = 40, 400
_LONGEST_ERROR = 1000
_PANELS_COLUMNS = 80  # the panels of a help text cut names of options on a narrower terminal
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
    _tidy_environment()
    app.rich_markup_mode = "markdown" if shutil.get_terminal_size().columns >= _PANELS_COLUMNS else None
    with guarded_streams():
        try:
            code = app(standalone_mode=False)
            sys.stdout.flush()
        except AttnprofError as error:
            code = _fail(str(error), error.exit_code)
        except _UsageError as error:
            code = _fail(usage_message(error), 2)
        except Interrupted as interrupted:
            code = interrupted.exit_code
        except (KeyboardInterrupt, typer.Abort):
            code = 130
        except ReaderGoneError:
            code = 0
        except OSError as error:
            code = _fail(_system_error(error), 1)
    return code or 0


def console() -> Console:
    """Return rich's console for stdout."""
    from rich.console import Console

    found = Console(highlight=False)
    found.width = min(max(found.width, _LEAST_COLUMNS), _MOST_COLUMNS)
    return found


def write(page: Page, format: str) -> None:
    """Write a report to stdout in one of `outputs.FORMATS`.

    Raises:
        OutputError: it cannot be written.
    """
    if format == "table":
        screen = console()
        with screen.capture() as drawn:
            screen.print(page.table(), crop=False)
        write_text(drawn.get())
    else:
        write_text({"csv": page.csv, "json": page.json, "markdown": page.markdown}[format]())


def write_text(text: str) -> None:
    """Write text to stdout.

    Raises:
        OutputError: it cannot be written.
    """
    sys.stdout.write(text)
    sys.stdout.flush()


def note(text: str) -> None:
    """Print a line on stderr, so that stdout contains data only."""
    sys.stderr.write(harmless(text) + "\n")
    sys.stderr.flush()


def _raise_interrupted(number: int, _: object) -> NoReturn:
    """Handle a signal."""
    raise Interrupted(128 + number)


def _fail(message: str, code: int) -> int:
    """Print the one line of an error; return the exit code."""
    note(f"attnprof: {shortened(message, _LONGEST_ERROR)}")
    return code


def _system_error(error: OSError) -> str:
    """Return the message for an error of the system that nothing closer to its cause has explained."""
    try:
        Path.cwd()
    except OSError:
        return "the current folder does not exist any more: change to another one (cd)"
    place = f"{error.filename}: " if error.filename else ""
    return f"{place}{error.strerror or error}"


def _tidy_environment() -> None:
    """Forget a width of the terminal that means nothing: rich and typer would fail on it."""
    for name in ("COLUMNS", "LINES", "TERMINAL_WIDTH"):
        value = os.environ.get(name)
        if value is not None and not (value.isdecimal() and len(value) <= 4 and int(value)):
            del os.environ[name]
