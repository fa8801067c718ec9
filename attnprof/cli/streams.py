"""The standard streams of a command: what cannot be written is one line and an exit code, and never a traceback.

Results go to stdout, so a failure there ends the command. Notes and progress go to stderr, and nobody is helped if a
lost note ends an hour of measuring.
"""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

from attnprof.errors import AttnprofError


class OutputError(AttnprofError):
    """The result cannot be written to stdout."""

    exit_code = 1


class ReaderGoneError(BaseException):
    """The reader of stdout has gone, as `| head` does when it has enough: nothing more is to be said."""


def reserve_standard_files() -> None:
    """Open the null device in place of each standard stream that is closed.

    Otherwise the next file that is opened, such as the one for the records, would take its number, and what is
    printed would go there. Writing to a closed stdout still fails, since its place is opened for reading only.
    """
    for number, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, flags), True)
    sys.stdin = sys.stdin or os.fdopen(0, "r", closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


@contextmanager
def guarded_streams() -> Iterator[None]:
    """Guard stdout and stderr while the block runs: failures become errors, and no letter is too strange to print."""
    before = sys.stdout, sys.stderr
    for stream in before:
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    sys.stdout, sys.stderr = cast(TextIO, _Results(before[0])), cast(TextIO, _Notes(before[1]))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


class _Stream(ABC):
    """A stream that does not raise `OSError`.

    Args:
        stream: the stream that does.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text; return its length."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._fail(error)
        return len(text)

    def flush(self) -> None:
        """Write what is waiting to be written."""
        try:
            self._stream.flush()
        except OSError as error:
            self._fail(error)

    @abstractmethod
    def _fail(self, error: OSError) -> None:
        """Deal with a write that failed."""

    def _abandon(self) -> None:
        """Let what is written from now on, and by Python at exit, go nowhere."""
        with suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)


class _Results(_Stream):
    """Stdout."""

    def _fail(self, error: OSError) -> None:
        self._abandon()
        if isinstance(error, BrokenPipeError):
            raise ReaderGoneError from None
        raise OutputError(
            f"stdout: the result cannot be written: {error.strerror}; write it to another place"
        ) from None


class _Notes(_Stream):
    """Stderr."""

    def _fail(self, error: OSError) -> None:
        together = isinstance(error, BrokenPipeError) and self._is_stdout()
        self._abandon()
        if together:  # `2>&1 | head`: the results would have no reader either
            raise ReaderGoneError from None

    def _is_stdout(self) -> bool:
        with suppress(OSError, ValueError):
            return os.path.sameopenfile(self._stream.fileno(), sys.stdout.fileno())
        return False
