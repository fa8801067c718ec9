"""How a command meets its user: what it prints and where, and how it ends."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from attnprof.errors import AttnprofError
from attnprof.studies.requests import Request

if TYPE_CHECKING:
    from attnprof.report.page import Page

FORMATS = ("table", "csv", "json", "markdown")
# The base of typer's own usage errors, which has moved between its versions.
_UsageError: type[Any] = typer.BadParameter.__mro__[2]


def run_app(app: typer.Typer) -> int:
    """Run the command line; every error is one line on stderr. Returns the exit code."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except AttnprofError as error:
        code = _fail(str(error), error.exit_code)
    except _UsageError as error:
        code = _fail(error.format_message(), 2)
    except typer.Abort:
        code = 130
    except Interrupted as interrupted:
        code = interrupted.exit_code
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        # The reader has gone (`| head`): nothing more to say, and nothing for Python to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    return code or 0


def require_output(format: str, csv: str | None = None) -> None:
    """Raises AttnprofError on what could not be written in the end."""
    if format not in FORMATS:
        raise AttnprofError(f"format: {format!r} is not one of {', '.join(FORMATS)}")
    if csv is not None and not Path(csv).absolute().parent.is_dir():
        raise AttnprofError(f"csv: the folder of {csv} does not exist; create it first")


def console() -> Any:
    """rich's, for stdout."""
    from rich.console import Console

    return Console(highlight=False)


@contextmanager
def surviving() -> Iterator[list[BaseException]]:
    """What ends the work early lands in the list, so that what there is can be shown first."""
    ending: list[BaseException] = []
    try:
        yield ending
    except (AttnprofError, KeyboardInterrupt, Interrupted) as error:
        ending.append(error)


def opened(request: Request, path: Path, stack: ExitStack, tell: Callable[[str], None]) -> tuple[list[Any], Any]:
    """The request's runners and its file of records, in the stack's care."""
    from attnprof.cases.record_file import RecordFile

    runners = [stack.enter_context(runner) for runner in request.runners(tell)]
    return runners, stack.enter_context(RecordFile(path, resume=request.resume))


def write(page: Page, output: str) -> None:
    """Write a report to stdout in one of `FORMATS`."""
    if output == "table":
        console().print(page.table())
    else:
        sys.stdout.write({"csv": page.csv, "json": page.json, "markdown": page.markdown}[output]())


def show(results: list[Any], page_of: Callable[[Any], Page], output: str, csv_path: str | None, path: Path) -> None:
    """Results to stdout and, where asked for, to a CSV file.

    Raises:
        AttnprofError: the file cannot be written.
    """
    if not results:
        return
    page = page_of(results)
    write(page, output)
    if csv_path is not None:
        try:
            Path(csv_path).write_text(page.csv(), encoding="utf-8")
        except OSError as error:
            raise AttnprofError(f"cannot write {csv_path}: {error.strerror}") from None
    note(f"records: {path}")


def raise_again(ending: list[BaseException], path: Path, done: str) -> None:
    """What `surviving` caught; of an interruption first how to go on."""
    for error in ending:
        if not isinstance(error, AttnprofError):
            again = " ".join(shlex.quote(word) for word in _resuming(sys.argv[1:], path))
            note(f"stopped after {done}; continue with: attnprof {again}")
        raise error


def _resuming(arguments: list[str], path: Path) -> list[str]:
    """The command that goes on where this one stopped."""
    resumed = list(arguments)
    if "--resume" not in resumed:
        resumed.append("--resume")
    if not any(word == "--out" or word.startswith("--out=") for word in resumed):
        resumed += ["--out", str(path)]
    return resumed


class Interrupted(BaseException):
    """Ended from outside by a signal other than Ctrl-C's."""

    def __init__(self, exit_code: int) -> None:
        self.exit_code = exit_code


def _terminated(number: int, _: object) -> NoReturn:
    """A signal's handler."""
    raise Interrupted(128 + number)


def note(text: str) -> None:
    """A line to stderr, where nothing is data."""
    sys.stderr.write(text + "\n")


def _fail(message: str, code: int) -> int:
    """The one line of an error; returns the exit code."""
    note(f"attnprof: {message}")
    return code
