"""The end of a process as the process itself sees it: an exception, a signal, an exit code, another program.

Python leaves an uncaught exception in `sys.last_value`, whatever hook the program has for it, so its own hook stays as
it is. This wraps `threading.excepthook`, and `os._exit`, `os.execv` and `os.execve`, which run no exit handlers.
"""

from __future__ import annotations

import os
import shlex
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from .findings import Ending, Line, ProcessFindings, Raised, to_json
from .notes import Notes
from .source_lines import line_of, places_of, program_places

_THREADS = 3  # whose exceptions are kept
_STACK_LINES = 20
_CHAINED = 20  # exceptions that are looked at for one that ran out of memory
_BEGIN_LETTERS, _END_LETTERS = 4000, 2000  # of an exception's text
_OUT_OF_MEMORY = "OutOfMemoryError"


class Endings:
    """The facts about the end of this process, and of threads that ended before it.

    Args:
        finish: writes the report, at an end that runs no exit handlers.
        resume: goes on with watching, since the process did not end after all.

    Attributes:
        of_threads: exceptions that ended threads, the first ones.
    """

    def __init__(self, finish: Callable[[], None], resume: Callable[[], None]) -> None:
        self._finish, self._resume = finish, resume
        self.begin(Notes())

    def begin(self, notes: Notes) -> None:
        """Know nothing yet: the process is new, or was just forked.

        Args:
            notes: for errors of the watching itself.
        """
        self._notes = notes
        self._known = Ending()
        self._inherited = [one for one in _exceptions() if one is not None]  # a parent may fork while it handles one
        self.of_threads: tuple[Raised, ...] = ()

    def watch(self) -> None:
        """Wrap the functions that end a process or tell of a thread's end; once in a process and those it forks."""
        threading.excepthook = self._after(threading.excepthook)
        for name in ("_exit", "execv", "execve"):
            setattr(os, name, self._before(name, getattr(os, name)))

    def by_signal(self, name: str, frame: FrameType | None) -> None:
        """Note that a signal ends the process, and the line that it interrupted."""
        with self._notes.record_errors("finding the line that a signal ended"):
            self._known = replace(self._known, signal=name, stack=_lines(frame))

    def found(self) -> Ending:
        """Return what is known now; at the end of the process that is how it ended."""
        with self._notes.record_errors("looking at the exception that ended the process"):
            self._look()
        return replace(self._known, seconds=time.time())

    def _look(self) -> None:
        handled, uncaught = (None if any(one is old for old in self._inherited) else one for one in _exceptions())
        # A signal or os._exit may come while the program handles an exception. Multiprocessing ends while it handles
        # the exception that nothing in the child caught.
        caught = handled is not None and bool(self._known.signal or self._known.left_by)
        error = handled or uncaught
        if isinstance(error, SystemExit):
            self._known = replace(self._known, exit_code=_exit_code(error.code))
            error, caught = error.__context__, True
        if error is not None and self._known.raised is None:
            self._known = replace(self._known, raised=replace(raised_of(error), caught=caught))

    def _after(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        def hook(arguments: Any) -> Any:
            error = arguments.exc_value
            try:
                if error is not None and not isinstance(error, SystemExit) and len(self.of_threads) < _THREADS:
                    with self._notes.record_errors("looking at the exception that ended a thread"):
                        name = str(getattr(arguments.thread, "name", "") or "without a name")
                        self.of_threads += (replace(raised_of(error), thread=name),)
            finally:
                plain(arguments)

        return hook

    def _before(self, name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
        def leave(*arguments: Any, **options: Any) -> Any:
            before = self._known
            with self._notes.record_errors(f"looking at os.{name}"):
                self._known = replace(before, stack=_lines(sys._getframe(1)), left_by=f"os.{name}")
                if name == "_exit":
                    status = arguments[0] if arguments else options.get("status")
                    self._known = replace(self._known, exit_code=_exit_code(status))
                self._finish()
            try:
                return plain(*arguments, **options)
            finally:  # it failed: there is no such program
                self._known = before
                with self._notes.record_errors("going on after a failed call"):
                    self._resume()

        return leave


def report_without_torch(folder: Path) -> None:
    """Write the findings of a process that ends with an uncaught exception and has not imported torch."""
    now = time.time()
    error = _exceptions()[1]
    raised = raised_of(error) if error is not None else None
    found = ProcessFindings(os.getpid(), shlex.join(sys.orig_argv), now, ended=True, ending=Ending(now, raised))
    (folder / f"{os.getpid()}-{now}.json").write_text(to_json(found), encoding="utf-8")


def raised_of(error: BaseException) -> Raised:
    """Describe an exception; nothing of it may be in order."""
    kind = type(error)
    name = (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )
    message = text_of(error)
    places = [
        (frame.f_code.co_filename, number, frame.f_code.co_name)
        for frame, number in traceback.walk_tb(_traceback(error))
    ]
    lines = [line_of(place) for place in program_places(reversed(places))[:_STACK_LINES]]
    stack = tuple(line for line in reversed(lines) if line is not None)
    if isinstance(error, SyntaxError) and error.filename and error.lineno:  # the file that cannot be run is not on it
        stack += (Line(str(error.filename), int(error.lineno), "", str(error.text or "").strip()),)
        message = str(error.msg)
    return Raised(name, message, stack, out_of_memory=_ran_out_of_memory(error))


def text_of(error: BaseException) -> str:
    """Return the text of an exception without its middle if it is very long; "" if it cannot be had."""
    try:
        text = str(error).strip()
    except BaseException:  # its own `__str__` failed
        return ""
    if len(text) <= _BEGIN_LETTERS + _END_LETTERS:
        return text
    return f"{text[:_BEGIN_LETTERS]}\n...\n{text[-_END_LETTERS:]}"


def _exceptions() -> tuple[BaseException | None, BaseException | None]:
    """Return the exception that this thread handles, and the one that nothing caught."""
    return sys.exc_info()[1], getattr(sys, "last_value", None)


def _exit_code(code: object) -> int:
    """Return the exit code that Python makes of the argument of `sys.exit` or `os._exit`."""
    if code is None:
        return 0
    return code & 0xFF if isinstance(code, int) else 1


def _traceback(error: BaseException) -> TracebackType | None:
    found = error.__traceback__
    return found if isinstance(found, TracebackType) else None


def _ran_out_of_memory(error: BaseException | None) -> bool:
    """Return whether an exception is PyTorch's out-of-memory error, or was raised because of one."""
    torch: Any = sys.modules.get("torch")
    kind = getattr(torch, "OutOfMemoryError", None)
    for _ in range(_CHAINED):
        if error is None:
            return False
        # Another process's error arrives as text.
        if (isinstance(kind, type) and isinstance(error, kind)) or f"torch.{_OUT_OF_MEMORY}" in text_of(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _lines(frame: FrameType | None) -> tuple[Line, ...]:
    lines = [line_of(place) for place in program_places(places_of(frame))[:_STACK_LINES]]
    return tuple(line for line in reversed(lines) if line is not None)
