"""Runs of the command line in a process of its own."""

import subprocess
import sys


def attnprof_command(*arguments, **options):
    """Run `python -m attnprof` with these arguments; returns the finished process with its output as text."""
    return subprocess.run(
        [sys.executable, "-m", "attnprof", *map(str, arguments)], capture_output=True, text=True, check=False, **options
    )
