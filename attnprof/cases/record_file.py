"""The file that keeps records: one JSON line for each case. Needs no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import IO, Any

from attnprof.cases.environment import Environment
from attnprof.cases.record import Record
from attnprof.errors import AttnprofError

_LINE_START = b'{"schema":'


class RecordFile:
    """A file that records are appended to; each is on disk before the next case starts.

    A line cut short by a crash is dropped when the file is opened again.

    Args:
        path: the file; its folder is made if there is none.
        resume: whether to continue a file that exists.

    Raises:
        AttnprofError: the file cannot be read or written, contains something else, or exists although
            it is not to be resumed.
    """

    def __init__(self, path: Path, *, resume: bool) -> None:
        self.path = path
        self.records: list[Record] = []
        self._stream: IO[str] | None = None
        self._lock = Lock()
        try:
            if path.exists() and path.stat().st_size:
                if not resume:
                    raise AttnprofError(f"{path} exists: add --resume to continue it, or choose another --out")
                self.records = read_records(path, drop_cut_line=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = path.open("a", encoding="utf-8")
        except OSError as error:
            raise AttnprofError(f"cannot write {path}: {error.strerror}; choose another --out") from None

    def append(self, record: Record) -> None:
        """Append a record; return when it is on disk. May be called from several threads.

        Raises:
            AttnprofError: the record cannot be written.
        """
        assert self._stream is not None
        with self._lock:
            try:
                self._stream.write(record.to_line() + "\n")
                self._stream.flush()
                self.records.append(record)  # before fsync: Ctrl-C usually arrives during it
                os.fsync(self._stream.fileno())
            except OSError as error:
                raise AttnprofError(
                    f"cannot write {self.path}: {error.strerror}; the records before are kept: "
                    f"make room and continue with --resume"
                ) from None

    def require_same(self, environment: Environment, settings: Mapping[str, Any], *, card: str | None = None) -> None:
        """Refuse to mix records of different environments or settings in one file.

        Args:
            environment: of the records to come.
            settings: of the records to come, as in `Record`.
            card: the emulated card whose records are compared; None for those of this machine's device.

        Raises:
            AttnprofError: a record differs; the message contains the key and both values.
        """
        now = {**environment.to_json(), **settings}
        for record in self.records:
            if record.card != card:
                continue
            then = {**record.environment.to_json(), **record.settings}
            for key in sorted({*now, *then}):
                if now.get(key) != then.get(key):
                    raise AttnprofError(
                        f"cannot resume {self.path}: it was measured with {key} = {then.get(key)}, now it is "
                        f"{now.get(key)}; choose another --out"
                    )

    def __enter__(self) -> RecordFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. It may be closed twice."""
        if self._stream is not None:
            with suppress(OSError):  # a full disk was reported when the record was appended
                self._stream.close()


def read_records(path: Path, *, drop_cut_line: bool = False) -> list[Record]:
    """Return the records of a file, the newest last.

    Args:
        path: the file.
        drop_cut_line: remove from the file a last line that a crash cut short.

    Raises:
        AttnprofError: a line is not a record; the file is left as it is.
        OSError: the file cannot be read or, with `drop_cut_line`, written.
    """
    content = path.read_bytes()
    whole, newline, cut = content.rpartition(b"\n")
    records = []
    for number, line in enumerate(whole.split(b"\n") if newline else [], start=1):
        try:
            records.append(Record.from_line(line))
        except ValueError as error:
            raise AttnprofError(f"{path}, line {number}: {error}; choose another file") from None
    if cut and not cut.startswith(_LINE_START[: len(cut)]):
        raise AttnprofError(f"{path} is not a file of attnprof records; choose another file")
    if cut and drop_cut_line:
        os.truncate(path, len(content) - len(cut))
    return records
