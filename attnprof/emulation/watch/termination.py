"""The handler of SIGTERM: a job is stopped with it, and Python would die of it without running exit handlers.

A forked child starts without this handler. Python calls it only between two instructions, and forgets a signal that
arrives before it has prepared the child (`_clear_pending_signals`, Modules/signalmodule.c). A worker that a pool ends
while it begins to wait for a lock would wait for ever.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any


class Termination:
    """A handler of SIGTERM, if the program has none.

    Args:
        handle: called with the signal's number and the interrupted frame.
    """

    def __init__(self, handle: Callable[[int, FrameType | None], None]) -> None:
        self._handle = handle
        self._forking = threading.local()
        os.register_at_fork(before=self._hold, after_in_parent=self._release, after_in_child=self._leave_to_the_child)

    def follow(self) -> None:
        """Handle SIGTERM from now on; only the main thread can ask for it."""
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._handle)

    def _handles(self) -> bool:
        handler: Any = signal.getsignal(signal.SIGTERM)
        return bool(handler == self._handle)

    def _hold(self) -> None:
        """Let SIGTERM wait while this thread forks."""
        self._forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}) if self._handles() else None

    def _release(self) -> None:
        if (mask := getattr(self._forking, "mask", None)) is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _leave_to_the_child(self) -> None:
        # A thread of the parent may have forked: it is the child's main thread.
        if self._handles():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._release()
