"""Reading a file of records: a regular file alone, line by line, and never more than fits in memory. Needs no torch.

Blank lines and a byte order mark, which editors leave behind, are skipped.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from attnprof.cases.decoding import parse_json
from attnprof.cases.record import Record
from attnprof.errors import AttnprofError
from attnprof.text import shown
from attnprof.units import format_bytes

_LINE_START = b'{"schema":'
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# A record of the largest model known takes 200 KiB, and a sweep of a day some MiB.
_LONGEST_LINE_BYTES = 2**24
_LARGEST_FILE_BYTES = 2**28
_MOST_LINES = 2**20
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True)
class Line:
    """A line of a file of records.

    Attributes:
        number: counted from 1.
        start, end: its place in the file in bytes, its line break included.
        record: the record that it contains; None for a blank line, or one that cannot be read.
        problem: why it cannot be read; "" if it can.
        whole: whether it ends with a line break.
        cut: whether it is the beginning of a record that a crash cut short.
    """

    number: int
    start: int
    end: int
    record: Record | None
    problem: str = ""
    whole: bool = True
    cut: bool = False


def read_records(path: Path, option: str = "from") -> list[Record]:
    """Return the newest record of each case and device in a file, in the order in which they were written.

    A last line that a crash cut short is left out.

    Args:
        path: the file.
        option: named at the beginning of an error.

    Raises:
        AttnprofError: it is not a regular file, it is too large or cannot be read, or a line is not a record.
    """
    with closing(os.fdopen(open_regular(path, os.O_RDONLY, option), "rb")) as stream:
        return newest(readable(line, path, option) for line in read_lines(stream, path, option))


def newest(records: Iterable[Record | None]) -> list[Record]:
    """Return the last record of each case and device, in order."""
    kept: dict[object, Record] = {}
    for record in records:
        if record is not None:
            kept.pop(record.key, None)  # the newer one stands at its own place
            kept[record.key] = record
    return list(kept.values())


def readable(line: Line, path: Path, option: str) -> Record | None:
    """Return a line's record; None for a blank line, and for a last one that was cut short.

    Raises:
        AttnprofError: the line is not a record.
    """
    if line.problem and not line.cut:
        raise AttnprofError(
            f"{option}: {path}, line {line.number}: {line.problem}; choose another file, or keep its other lines "
            f"with attnprof records merge"
        )
    return line.record


def read_lines(stream: IO[bytes], path: Path, option: str) -> Iterator[Line]:
    """Yield the lines of a file from its beginning, one at a time.

    Args:
        stream: the file, open for reading.
        path: for errors.
        option: named at the beginning of an error.

    Raises:
        AttnprofError: the file is too large, or cannot be read.
    """
    try:
        size = os.fstat(stream.fileno()).st_size
        if size > _LARGEST_FILE_BYTES:
            raise AttnprofError(
                f"{option}: {path} has {format_bytes(size)}, more than any file of records ("
                f"{format_bytes(_LARGEST_FILE_BYTES)}); choose another file"
            )
        stream.seek(0)
        number = start = 0
        while data := stream.readline(_LONGEST_LINE_BYTES):
            number += 1
            if number > _MOST_LINES:
                raise AttnprofError(
                    f"{option}: {path} has more than {_MOST_LINES:,} lines, more than any file of records; choose "
                    f"another file"
                )
            yield _line(data, number, start)
            start += len(data)
    except OSError as error:
        raise AttnprofError(f"{option}: cannot read {path}: {error.strerror}; choose another file") from None


def open_regular(path: Path, flags: int, option: str) -> int:
    """Open a regular file and return its descriptor; a pipe or device is not opened, since that can block for ever.

    Args:
        path: the file.
        flags: of open(2).
        option: named at the beginning of an error.

    Raises:
        AttnprofError: it is something else than a regular file, or cannot be opened.
    """
    verb = "read" if flags & (os.O_WRONLY | os.O_RDWR) == 0 else "write"
    try:
        # Looked at before, since opening a device can have effects, and after, since it may have been exchanged.
        if path.exists():
            _require_regular(path.stat().st_mode, path, option)
        descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0), 0o666)
        try:
            _require_regular(os.fstat(descriptor).st_mode, path, option)
        except BaseException:
            os.close(descriptor)
            raise
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL character
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise AttnprofError(f"{option}: cannot {verb} {shown(str(path), 300)}: {reason}; choose another file") from None
    return descriptor


def _require_regular(mode: int, path: Path, option: str) -> None:
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "something else")
        raise AttnprofError(f"{option}: {path} is {kind}; name a regular file")


def _line(data: bytes, number: int, start: int) -> Line:
    end, whole = start + len(data), data.endswith(b"\n")
    text = data.removeprefix(_BYTE_ORDER_MARK) if number == 1 else data
    if not text.strip():
        return Line(number, start, end, None, whole=whole)
    try:
        return Line(number, start, end, Record.from_line(text), whole=whole)
    except ValueError as error:
        cut = not whole and len(data) < _LONGEST_LINE_BYTES and _is_beginning(text)
        return Line(number, start, end, None, str(error), whole, cut)


def _is_beginning(text: bytes) -> bool:
    """Return whether a text is the beginning of a record: it begins like one, and is not JSON as it stands."""
    if not text.startswith(_LINE_START[: len(text)]):
        return False
    try:
        parse_json(text)
    except ValueError:
        return True
    return False
