"""The line of the user's code to name when something goes wrong. Needs no torch."""

from __future__ import annotations

import linecache
import os
import re
import sysconfig
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from attnprof.import_path import find_module

# The beginning of what `faulthandler` writes when a signal ends Python or time is up, and a frame in it.
_FAULT = re.compile(r"^(Fatal Python error: |Timeout \()", re.MULTILINE)
_FAULT_FRAME = re.compile(r'^  File "(.+)", line ([0-9]+) in (.+)$', re.MULTILINE)
_LONGEST_SOURCE = 200  # letters of a line that are shown


class Line(NamedTuple):
    """A line of code that runs.

    Attributes:
        file: the path of its file, as Python names it.
        number: the number of the line in the file.
        function: the name of the function that it belongs to.
    """

    file: str
    number: int
    function: str

    def __str__(self) -> str:
        source = linecache.getline(self.file, self.number).strip()[:_LONGEST_SOURCE]
        place = f"{shown_path(self.file)}, line {self.number}, in {self.function}"
        return f"{place}: {source}" if source else place


def users_line(lines: Sequence[Line], target: str) -> Line | None:
    """Return the innermost line of the model's own file, else the innermost that is not torch's, Python's or ours.

    Args:
        lines: the lines that run, the outermost first.
        target: the model, as `PATH.py:NAME` or `package.module:NAME`.
    """
    place = target.rpartition(":")[0]
    file = Path(place).resolve() if place.endswith(".py") else None
    own = [line for line in lines if file and Path(line.file).resolve() == file]
    others = [line for line in lines if not _is_plumbing(line.file)]
    return next(iter([*reversed(own), *reversed(others)]), None)


def fault_lines(output: str) -> list[Line]:
    """Return the lines that ran when a signal ended the process or time was up, the outermost first.

    Args:
        output: the end of what the process wrote, with the dump of `faulthandler`.
    """
    dump = output[len(without_fault(output)) :]
    found = [Line(file, int(number), function) for file, number, function in _FAULT_FRAME.findall(dump)]
    return found[::-1]


def without_fault(output: str) -> str:
    """Return what a process wrote before the last dump of `faulthandler`."""
    starts = [match.start() for match in _FAULT.finditer(output)]
    return output[: starts[-1]] if starts else output


def shown_path(file: str) -> str:
    """Return a path as the user would write it: relative, if it is below the current folder."""
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _is_plumbing(file: str) -> bool:
    """Return whether a file belongs to Python's library, torch or attnprof."""
    library = f"{sysconfig.get_path('stdlib')}{os.sep}"
    installed = any(f"{os.sep}{name}{os.sep}" in file for name in ("site-packages", "dist-packages"))
    return file.startswith(("<", *_folders())) or (file.startswith(library) and not installed)


@cache
def _folders() -> tuple[str, ...]:
    """Return the folders of attnprof and torch."""
    torch = find_module("torch")
    places = [Path(__file__).parents[1], *([Path(torch.origin).parent] if torch and torch.origin else [])]
    return tuple(f"{place}{os.sep}" for place in places)
