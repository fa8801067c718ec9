"""The line of the user's code to name when something goes wrong. Needs no torch."""

from __future__ import annotations

import importlib
import linecache
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from attnprof.import_path import find_module

# The beginning of what `faulthandler` writes when a signal ends Python or time is up, and a frame in it.
_FAULT = re.compile(r"^(Fatal Python error: |Timeout \()", re.MULTILINE)
_FAULT_FRAME = re.compile(r'^  File "(.+)", line ([0-9]+) in (.+)$', re.MULTILINE)


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
        source = linecache.getline(self.file, self.number).strip()
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
    others = [line for line in lines if not line.file.startswith(("<", *_plumbing()))]
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


@cache
def _plumbing() -> tuple[str, ...]:
    """Return the folders of Python's import system, torch and attnprof."""
    return tuple(map(str, _plumbing_folders()))


def _plumbing_folders() -> Iterator[Path]:
    yield Path(__file__).parents[1]
    yield Path(importlib.__path__[0])
    torch = find_module("torch")
    if torch is not None and torch.origin is not None:
        yield Path(torch.origin).parent
