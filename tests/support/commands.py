"""Runs of the command line: in a process of its own as a user runs it, or in this one, which is faster."""

import io
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from types import SimpleNamespace
from unittest.mock import patch

from attnprof.cli.app import app
from attnprof.cli.terminal import run_app

# A sweep of eight cases in a second or two.
SMALL = [
    "sweep",
    "--device",
    "cpu",
    "--hw",
    "4,6x8",
    "--channels",
    "8",
    "--strategy",
    "naive,chunked",
    "--case-seconds",
    "0.01",
]


def attnprof_command(*arguments, **options):
    """Run `python -m attnprof` with these arguments; returns the finished process with its output as text."""
    return subprocess.run(
        [sys.executable, "-m", "attnprof", *map(str, arguments)], capture_output=True, text=True, check=False, **options
    )


def attnprof_here(*arguments, columns=80):
    """Run the command line in this process: for listings and bad input, which measure nothing.

    Returns its exit code and output, named as those of a finished process.
    """
    words = ["attnprof", *map(str, arguments)]
    with (
        patch.object(sys, "argv", words),
        patch.dict("os.environ", {"COLUMNS": str(columns)}),
        redirect_stdout(io.StringIO()) as out,
        redirect_stderr(io.StringIO()) as err,
        patch("signal.signal"),
    ):
        code = run_app(app)
    return SimpleNamespace(returncode=code, stdout=out.getvalue(), stderr=err.getvalue())
