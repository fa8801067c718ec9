"""The places that a command writes its result to, checked before anything is measured."""

from __future__ import annotations

import csv
import os
import stat
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from attnprof.cases.parsing import parse_choice, parse_path
from attnprof.errors import AttnprofError
from attnprof.text import shown

FORMATS = ("table", "csv", "json", "markdown")
_STREAMS = {1: "standard output", 2: "standard error"}


@dataclass(frozen=True)
class Output:
    """The places that a result goes to.

    Attributes:
        format: of stdout, one of `FORMATS`.
        csv: a CSV file to write as well.
    """

    format: str
    csv: Path | None = None


def require_output(
    format: str, csv: str | None = None, *, force: bool = False, files: Mapping[str, Path] | None = None
) -> Output:
    """Check, before anything is measured, that the result can be written in the end and destroys nothing.

    Args:
        format: of stdout.
        csv: the CSV file to write, if any.
        force: whether the CSV file may replace a file that is not an earlier CSV file of attnprof.
        files: the other files that the command reads or writes, by option.

    Returns:
        The places.

    Raises:
        AttnprofError: the format is unknown, two places are one file, the CSV file would replace something, or it
            cannot be written.
    """
    parse_choice(format, "format", FORMATS)
    path = None if csv is None else parse_path(csv, "csv")
    require_apart({**({} if path is None else {"csv": path}), **(files or {})})
    if path is not None:
        _require_replaceable(path, force)
    return Output(format, path)


def require_apart(files: Mapping[str, Path]) -> None:
    """Check that no two files are one, also through links, and that standard output and error go elsewhere.

    Args:
        files: by option.

    Raises:
        AttnprofError: two are the same file; the message names both options and the path.
    """
    for (one, path), (other, place) in combinations(files.items(), 2):
        if _is_same(path, place):
            raise AttnprofError(f"{one}: {path} is the file of {other} as well; name two files")
    for descriptor, name in _STREAMS.items():
        with suppress(OSError, ValueError):  # a closed stream, or a file that does not exist
            stream = os.fstat(descriptor)
            for option, path in files.items():
                if stat.S_ISREG(stream.st_mode) and os.path.samestat(stream, path.stat()):
                    raise AttnprofError(f"{option}: {path} is where {name} goes; name two files")


def write_whole(path: Path, text: str, option: str) -> None:
    """Write a file whole or not at all: what it had before stays until the new text is on disk.

    Args:
        path: the file; a link is followed.
        text: the new content.
        option: named at the beginning of an error.

    Raises:
        AttnprofError: the file cannot be written.
    """
    path = Path(os.path.realpath(path))
    try:
        descriptor, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace", newline="") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(descriptor)
            Path(aside).chmod(_mode_of(path))
            Path(aside).replace(path)
        finally:
            Path(aside).unlink(missing_ok=True)
    except OSError as error:
        raise AttnprofError(f"{option}: cannot write {path}: {error.strerror}") from None


def _require_replaceable(path: Path, force: bool) -> None:
    try:
        if path.is_dir():
            raise AttnprofError(f"csv: {path} is a folder; name a file")
        if not path.absolute().parent.is_dir():
            raise AttnprofError(f"csv: the folder of {path} does not exist; create it first")
        if path.exists() and not path.is_file():
            raise AttnprofError(f"csv: {path} is not a regular file; --format csv writes to standard output")
        if path.exists() and not force and not _is_own(path):
            raise AttnprofError(
                f"csv: {path} exists, and attnprof did not write it; name another file, or add --force to replace it"
            )
        with tempfile.TemporaryFile(dir=os.path.realpath(path.absolute().parent)):
            pass
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL character
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise AttnprofError(f"csv: cannot write {shown(str(path), 300)}: {reason}; name another file") from None


def _is_own(path: Path) -> bool:
    """Return whether a file is empty, or begins with the columns of one of attnprof's reports."""
    from attnprof.report.fields import FIELDS

    with path.open("rb") as stream:
        line = stream.readline(2**16).decode("utf-8", "replace").strip()
    names = next(csv.reader([line]), [])
    return not line or any(_begins_alike(names, (field.name for field in fields)) for fields in FIELDS.values())


def _begins_alike(names: Iterable[str], columns: Iterable[str]) -> bool:
    """Return whether names are the first columns of a report, which gets new columns at its end."""
    known = list(columns)
    found = list(names)
    return len(found) > 2 and (found[: len(known)] == known[: len(found)])


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except (OSError, ValueError):
        return os.path.realpath(one) == os.path.realpath(other)


def _mode_of(path: Path) -> int:
    """Return the permissions of a file, or those that a new one gets."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask
