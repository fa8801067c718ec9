"""Reading what the processes of a program found, on the side of the command.

The watcher writes with the standard library alone, since it runs inside the user's program. The program knows the
folder too, and can put anything there.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attnprof.cases.decoding import convert_text, parse_json
from attnprof.emulation.watch.findings import ProcessFindings

_PART = ".part"  # at the end of a name while the watcher writes the file
_STARTED = ".python"  # at the end of the name of a file that says that a Python was started
_LARGEST_BYTES = 16 * 2**20  # of a file
_MOST_FILES = 10_000
_LARGEST_NUMBER = 2**63 - 1


def collect_findings(folder: Path) -> tuple[tuple[ProcessFindings, ...], tuple[str, ...]]:
    """Read all findings in a folder, however many there are and whatever else is there.

    Returns:
        The findings, in the order in which their processes imported torch; and a line for each file that is none.
    """
    if folder.is_symlink() or not folder.is_dir():
        return (), ("the program has removed the folder of the reports",)
    found, notes = [], []
    for name in _names(folder):
        try:
            found.append(findings_from_json(_text(folder / name)))
        except (OSError, ValueError) as error:
            words = error.strerror if isinstance(error, OSError) else str(error)
            notes.append(f"{name}: {words}")
    return tuple(sorted(found, key=lambda one: one.started_seconds)), tuple(notes)


def python_started(folder: Path) -> bool:
    """Return whether a Python of the program ran the watcher's `sitecustomize`, though perhaps never torch."""
    try:
        with os.scandir(folder) as entries:
            return any(entry.name.endswith(_STARTED) for entry in entries)
    except OSError:
        return False


def findings_from_json(text: str | bytes) -> ProcessFindings:
    """Return the findings that `watch.findings.to_json` wrote; a missing field has its default.

    Raises:
        ValueError: a value does not fit; the message contains its place.
    """
    findings: ProcessFindings = convert_text(text, ProcessFindings)
    if any(not 0 <= number <= _LARGEST_NUMBER for number in _whole_numbers(parse_json(text))):
        raise ValueError("a number is negative or too large")
    return findings


def _names(folder: Path) -> list[str]:
    """Return the names of the files of findings, and of those that could not be written to their end."""
    names = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith((".json", f".json{_PART}")):
                    names.append(entry.name)
                if len(names) == _MOST_FILES:
                    break
    except OSError:  # the program has closed the folder
        return []
    # A process that was killed while it wrote has left an earlier report.
    return sorted(name for name in names if name.removesuffix(_PART) not in names or not name.endswith(_PART))


def _text(path: Path) -> bytes:
    """Return the contents of a regular file of limited size.

    Raises:
        OSError: it cannot be read.
        ValueError: it is something else.
    """
    if path.suffix == _PART:
        raise ValueError("it was not written to its end: is the disk full?")
    # A link is not followed, and a pipe without a writer is not waited for.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is not a regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as stream:
            text = stream.read(_LARGEST_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(text) > _LARGEST_BYTES:
        raise ValueError(f"it is larger than {_LARGEST_BYTES // 2**20} MiB")
    return text


def _whole_numbers(value: Any) -> Iterator[int]:
    """Yield the whole numbers in a JSON value, however deep."""
    if isinstance(value, int):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _whole_numbers(one)
    elif isinstance(value, list):
        for one in value:
            yield from _whole_numbers(one)
