"""Noting the line from which the user's code ends the measuring process or hangs."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from types import FrameType, ModuleType
from typing import Any

from attnprof.measure.mailbox import Slot
from attnprof.measure.places import Line, users_line
from attnprof.measure.worker import owner

# The functions that can end the process at once, without an exception that could be caught.
_ENDING: tuple[tuple[ModuleType, str], ...] = (
    *((os, name) for name in ("_exit", "abort", "kill", "killpg", "execv", "execve")),
    *((signal, name) for name in ("raise_signal", "pthread_kill")),
)


_NOTED_SHARE = 0.9  # of the time that a case has, after which the lines that run are noted
_SHORTEST_SECONDS = 0.5
_exit_handlers: list[Any] = []  # kept alive for the C library


@contextmanager
def departures_noted(place: Slot, target: str, *, forked: bool) -> Iterator[None]:
    """Note the line of the user's code that calls a function which can end the process.

    Args:
        place: where the line is noted; it is empty again if the process goes on.
        target: the model whose code runs.
        forked: whether this process was forked for the case, and is not to run exit handlers.
    """
    if forked:
        _leave_at_c_exit(place, target)
    plain = [(module, name, getattr(module, name)) for module, name in _ENDING if hasattr(module, name)]
    for module, name, function in plain:
        setattr(module, name, _noting(function, place, target))
    try:
        yield
    finally:
        for module, name, function in plain:
            setattr(module, name, function)


@contextmanager
def hang_noted(timeout_seconds: float) -> Iterator[None]:
    """Write the lines that run to stderr shortly before the time is up (`measure.places` reads them)."""
    if timeout_seconds < _SHORTEST_SECONDS:
        yield
        return
    faulthandler.dump_traceback_later(_NOTED_SHARE * timeout_seconds, file=_stderr())
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


@cache
def _stderr() -> int:
    """Return a copy of stderr, which the code under test may close."""
    try:
        return os.dup(2)
    except OSError:
        return 2


def _noting(function: Callable[..., Any], place: Slot, target: str) -> Callable[..., Any]:
    def noting(*arguments: Any) -> Any:
        if not owner.is_owner():  # a process that the user's code forked may end as it likes
            return function(*arguments)
        _note(sys._getframe(1), place, target)
        try:
            return function(*arguments)
        finally:
            place.clear()

    return noting


def _note(frame: FrameType | None, place: Slot, target: str) -> None:
    lines = [Line(one.f_code.co_filename, number, one.f_code.co_name) for one, number in traceback.walk_stack(frame)]
    line = users_line(lines[::-1], target)
    place.put(str(line or "").encode("utf-8", "replace")[: place.capacity])


def _leave_at_c_exit(place: Slot, target: str) -> None:
    """End the process at once if C code calls `exit`: the libraries' exit handlers wait for threads that no fork has.

    A library that finds no memory for a thread calls it, for one.
    """
    handler = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p)

    def leave(status: int, _: object) -> None:
        if owner.is_owner():
            _note(sys._getframe(1), place, target)
        owner.exit_at_once(status & 0xFF)

    with suppress(AttributeError):  # not in every C library
        _exit_handlers.append(handler(leave))
        ctypes.CDLL(None).on_exit(_exit_handlers[-1], None)
