"""The notes that the emulated driver has made about this process."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from .findings import ReadCounts

ReadBackListener = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)
"""The type of a listener in C: called in the thread that reads, with the level; returns a signal to send again, or 0.

The levels are those of emulation/native/emulator.h: 0 true, 1 drawn, 2 made up, as the attributes of `ReadCounts`.
"""


_MOST_WORKSPACES = 65_536  # that the driver keeps


class _Journal(ctypes.Structure):
    """The struct Journal of emulation/native/journal.c."""

    _fields_: ClassVar[Sequence[tuple[str, Any]]] = (
        ("reads", ctypes.c_uint64 * 3),
        ("unknown", ctypes.c_char * 2048),
        ("assumed", ctypes.c_char * 2048),
    )


class _Workspace(ctypes.Structure):
    """The struct Workspace of emulation/native/workspaces.c."""

    _fields_: ClassVar[Sequence[tuple[str, Any]]] = (
        ("address", ctypes.c_uint64),
        ("bytes", ctypes.c_uint64),
        ("time_us", ctypes.c_uint64),
        ("library", ctypes.c_char * 16),
        ("operation", ctypes.c_char * 40),
    )


@dataclass(frozen=True)
class Workspace:
    """A block of memory that a library was given as its workspace.

    Attributes:
        address: where it begins.
        size_bytes: how much of it the library uses; the block may be larger.
        time_us: when the library was given it, in microseconds since the epoch.
        library: `cuDNN`, `cuBLAS` or `cuBLASLt`.
        operation: what the library computed with it; empty if it keeps it for many operations.
    """

    address: int
    size_bytes: int
    time_us: int
    library: str
    operation: str


@dataclass(frozen=True)
class Journal:
    """The notes since the process began, or since the last `clear`.

    Attributes:
        reads: copies from the device to the host.
        unknown: calls that are not emulated.
        assumed: what was assumed that a real card might not do.
    """

    reads: ReadCounts
    unknown: tuple[str, ...]
    assumed: tuple[str, ...]


class EmulatedDriver:
    """The emulated CUDA driver in this process."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def journal(self) -> Journal:
        """Return what the driver has noted so far."""
        found = _Journal()
        self._library.attnprof_read_journal(ctypes.byref(found))
        return Journal(
            ReadCounts(*found.reads),
            tuple(found.unknown.decode().splitlines()),
            tuple(found.assumed.decode().splitlines()),
        )

    def plan_trials(self) -> int:
        """Return for how many operations plans of cuDNN were compared by their times."""
        self._library.attnprof_plan_trials.restype = ctypes.c_ulong
        return int(self._library.attnprof_plan_trials())

    def workspaces(self) -> list[Workspace]:
        """Return the newest notes on workspaces, the oldest first."""
        found = (_Workspace * _MOST_WORKSPACES)()
        count = self._library.attnprof_read_workspaces(found, ctypes.c_size_t(_MOST_WORKSPACES))
        return [
            Workspace(one.address, one.bytes, one.time_us, one.library.decode(), one.operation.decode())
            for one in found[:count]
        ]

    def clear(self) -> None:
        """Empty the journal."""
        self._library.attnprof_clear_journal()

    def on_read_back(self, listener: Callable[[int], int] | None) -> None:
        """Call a listener after each copy from the card to the host.

        Args:
            listener: made by `ReadBackListener`, and kept alive by the caller; None to stop listening.
        """
        self._library.attnprof_on_read_back(listener)


def emulated_driver() -> EmulatedDriver | None:
    """Return this process' driver if it is the emulated one (known by a symbol that no real one has), else None."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    return EmulatedDriver(library) if hasattr(library, "attnprof_read_journal") else None
