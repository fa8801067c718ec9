"""What the stand-in driver has noted of this process."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

# attnprof_on_read_back's argument: called on the thread that reads; returns a signal to send anew, or 0.
ReadBackListener = ctypes.CFUNCTYPE(ctypes.c_int)


class _Journal(ctypes.Structure):
    """The Journal of emulation/native/journal.c."""

    _fields_: ClassVar[Sequence[tuple[str, Any]]] = (
        ("read_backs", ctypes.c_uint64),
        ("unknown", ctypes.c_char * 2048),
        ("assumed", ctypes.c_char * 2048),
    )


@dataclass(frozen=True)
class Journal:
    """Since the process began, or `clear`.

    Attributes:
        read_backs: copies from the device to the host.
        unknown: calls that are not emulated.
        assumed: what was assumed that a real card might not do.
    """

    read_backs: int
    unknown: tuple[str, ...]
    assumed: tuple[str, ...]


class EmulatedDriver:
    """The driver library of this process, where it is the emulation's."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def journal(self) -> Journal:
        found = _Journal()
        self._library.attnprof_read_journal(ctypes.byref(found))
        return Journal(
            found.read_backs,
            tuple(found.unknown.decode().splitlines()),
            tuple(found.assumed.decode().splitlines()),
        )

    def clear(self) -> None:
        self._library.attnprof_clear_journal()

    def on_read_back(self, listener: Callable[[], int] | None) -> None:
        """The listener, made by `ReadBackListener` and kept alive by the caller; None: nobody listens."""
        self._library.attnprof_on_read_back(listener)


def emulated_driver() -> EmulatedDriver | None:
    """None where the driver is a real one or there is none: told by a symbol that no real one has."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    return EmulatedDriver(library) if hasattr(library, "attnprof_read_journal") else None
