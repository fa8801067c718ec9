"""The file that keeps records: one JSON line for each case. Needs no torch.

Records are only ever appended. A case that is measured again gets a second line, which counts in place of the first.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

from attnprof.cases.case import Case
from attnprof.cases.environment import Environment
from attnprof.cases.measurement import Outcome
from attnprof.cases.record import Record
from attnprof.cases.record_lines import newest, open_regular, read_lines, readable
from attnprof.cases.state_folder import state_folder
from attnprof.errors import AttnprofError
from attnprof.text import shown

# They say how long a result was waited for, and do not change it.
_TIME_LIMITS = ("case_seconds", "timeout_seconds")
# A listing of the folder has the lock for a moment.
_PATIENCE_SECONDS = (0.01, 0.05, 0.1)
_APPENDING = os.O_RDWR | os.O_APPEND | os.O_CREAT


class RecordFile:
    """A file that records are appended to; each is on disk before the next case starts.

    One process at a time writes it. A line cut short by a crash is dropped when the file is opened again. If the file
    is removed, replaced or cut while it is open, all records are written anew and a line says where. A file that got
    no record is removed. The null device is a file that keeps nothing.

    Args:
        path: the file; its folder is made if there is none.
        resume: whether to continue a file that exists.
        tell: called with a line of text if something happened to the file.

    Attributes:
        path: where the records are now.

    Raises:
        AttnprofError: the file cannot be read or written, contains something else, is being written by another
            process, or exists although it is not to be resumed.
    """

    def __init__(self, path: Path, *, resume: bool, tell: Callable[[str], None] = lambda _: None) -> None:
        self.path = path
        self._tell = tell
        self._written: list[Record] = []  # every line, also those that a newer one replaces
        self._size = 0  # of the file, as it was left
        self._lock = Lock()
        self._descriptor: int | None = None
        self._made = False
        if not keeps_nothing(path):
            self._open(resume)

    @property
    def records(self) -> list[Record]:
        """The newest record of each case and device, in the order in which they were written."""
        return newest(tuple(self._written))

    def settled(self, card: str | None, retry: Collection[Outcome] = ()) -> dict[Case, Record]:
        """Return the records of a device that need not be measured again, by case.

        Args:
            card: the emulated card; None for a device of this machine.
            retry: outcomes that are to be measured again.
        """
        mine = (record for record in self.records if record.card == card)
        return {record.case: record for record in mine if record.outcome not in retry}

    def append(self, *records: Record) -> None:
        """Append records; return when they are on disk. May be called from several threads.

        Raises:
            AttnprofError: they cannot be written.
        """
        lines = b"".join(map(_encoded, records))
        with self._lock:
            if self._descriptor is None:
                self._written += records
                return
            try:
                self._stay_in_place()
                self._write(lines)
                self._written += records  # before fsync: Ctrl-C usually arrives during it
                os.fsync(self._descriptor)
            except OSError as error:
                raise AttnprofError(
                    f"out: cannot write {self.path}: {error.strerror}; the records before are kept: make room and "
                    f"continue with --resume"
                ) from None

    def require_same(self, environment: Environment, settings: Mapping[str, Any], *, card: str | None = None) -> None:
        """Refuse to mix records of different environments or settings in one file; time limits may differ.

        Args:
            environment: of the records to come.
            settings: of the records to come, as in `Record`.
            card: the emulated card whose records are compared; None for those of this machine's device.

        Raises:
            AttnprofError: a record differs; the message contains the key and both values.
        """
        for record in self.records:
            difference = difference_between(record, environment, settings) if record.card == card else None
            if difference:
                key, then, now = difference
                raise AttnprofError(
                    f"out: cannot resume {self.path}: it was measured with {key} = {then}, now it is {now}; choose "
                    f"another --out"
                )

    def __enter__(self) -> RecordFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. It may be closed twice."""
        with self._lock:
            if self._descriptor is None:
                return
            if self._made and not self._size:
                with suppress(OSError):
                    self.path.unlink()
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self, resume: bool) -> None:
        self._made = not os.path.lexists(self.path)
        self._descriptor = _opened(self.path, _APPENDING)
        try:
            if os.fstat(self._descriptor).st_size:
                if not resume:
                    raise AttnprofError(
                        f"out: {self.path} exists: add --resume to continue it, or choose another --out"
                    )
                self._load()
        except BaseException:
            os.close(self._descriptor)
            raise

    def _load(self) -> None:
        """Read what the file has, and mend its last line if a crash cut it short or an editor took its line break."""
        assert self._descriptor is not None
        unfinished = False
        with os.fdopen(os.dup(self._descriptor), "rb") as stream:
            for line in read_lines(stream, self.path, "out"):
                record = readable(line, self.path, "out")
                if record is not None:
                    self._written.append(record)
                self._size, unfinished = (line.start, False) if line.cut else (line.end, not line.whole)
        if not self._written and not self._size:
            return
        try:
            os.truncate(self._descriptor, self._size)
            if unfinished:
                self._write(b"\n")
        except OSError as error:
            raise AttnprofError(f"out: cannot write {self.path}: {error.strerror}; choose another --out") from None

    def _write(self, data: bytes) -> None:
        """Write at the end of the file, all of it or nothing.

        Raises:
            OSError: it cannot be written.
        """
        assert self._descriptor is not None
        try:
            _write_at_end(self._descriptor, data)
        except OSError:
            with suppress(OSError):
                os.truncate(self._descriptor, self._size)
            raise
        self._size += len(data)

    def _stay_in_place(self) -> None:
        """Notice what others have done to the file, and write all records anew if they are no longer in it."""
        assert self._descriptor is not None
        own = os.fstat(self._descriptor)
        try:
            there = self.path.stat()
        except OSError:
            there = None
        if there is None:
            self._move("was removed")
        elif not os.path.samestat(there, own):
            self._move("was replaced by another file")
        elif own.st_size < self._size:
            self._move("was cut")
        elif own.st_size > self._size:
            # Somebody appended to it, perhaps without a line break.
            self._size = own.st_size
            if os.pread(self._descriptor, 1, self._size - 1) != b"\n":
                self._write(b"\n")

    def _move(self, what_happened: str) -> None:
        """Write every record into a new file: at the same path if it is free, else beside it, else in the state folder.

        Raises:
            AttnprofError: no place takes it.
        """
        assert self._descriptor is not None
        before, lines = self.path, b"".join(map(_encoded, self._written))
        for beside in (True, False):
            try:
                path = _free_path(before.parent if beside else state_folder(), before)
                descriptor = _opened(path, _APPENDING | os.O_EXCL)
            except AttnprofError:
                continue
            try:
                _write_at_end(descriptor, lines)
            except OSError:  # the disk is full: the file of before still has the records
                os.close(descriptor)
                path.unlink()
                continue
            os.close(self._descriptor)
            self.path, self._descriptor, self._size = path, descriptor, len(lines)
            self._tell(f"{before} {what_happened} while it was written; all its records are now in {path}")
            return
        raise AttnprofError(f"out: {before} {what_happened} while it was written, and no other place can be written")


def keeps_nothing(path: Path) -> bool:
    """Return whether a path is the null device."""
    try:
        return path.samefile(os.devnull)
    except (OSError, ValueError):
        return False


def is_being_written(path: Path) -> bool:
    """Return whether another process has a file open to append to."""
    try:
        descriptor = open_regular(path, os.O_RDONLY, "out")
    except AttnprofError:
        return False
    try:
        return not _locked(descriptor)
    finally:
        os.close(descriptor)


def difference_between(
    record: Record, environment: Environment, settings: Mapping[str, Any]
) -> tuple[str, Any, Any] | None:
    """Return the first key in which a record's environment and settings differ from others, and both values."""
    then = {**record.environment.to_json(), **record.settings}
    now = {**environment.to_json(), **settings}
    for key in sorted({*now, *then} - {*_TIME_LIMITS}):
        if now.get(key) != then.get(key):
            return key, then.get(key), now.get(key)
    return None


def _write_at_end(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def _encoded(record: Record) -> bytes:
    # A file name in no known encoding has characters that UTF-8 cannot write.
    return (record.to_line() + "\n").encode("utf-8", "replace")


def _opened(path: Path, flags: int) -> int:
    """Open a file for one process to append to, and return its descriptor.

    Raises:
        AttnprofError: it cannot be opened, or another process has it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise AttnprofError(
            f"out: cannot make the folder of {shown(str(path), 300)}: {reason}; choose another --out"
        ) from None
    descriptor = open_regular(path, flags, "out")
    if not _locked(descriptor):
        os.close(descriptor)
        raise AttnprofError(
            f"out: {path} is being written by another attnprof; wait for its end, or choose another --out"
        )
    return descriptor


def _locked(descriptor: int) -> bool:
    """Lock a file for this process; return whether no other has it. The system ends the lock with the process."""
    if sys.platform == "win32":
        return True
    import fcntl

    for patience_seconds in (*_PATIENCE_SECONDS, None):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if patience_seconds is not None:
                time.sleep(patience_seconds)
        except OSError:  # some network file systems have no locks
            return True
        else:
            return True
    return False


def _free_path(folder: Path, like: Path) -> Path:
    """Return the path of a file that does not exist: `sweep.jsonl`, or `sweep.2.jsonl` if there is one."""
    path, number = folder / like.name, 2
    while os.path.lexists(path):
        path, number = folder / f"{like.stem}.{number}{like.suffix}", number + 1
    return path
