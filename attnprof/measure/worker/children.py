"""The processes below the worker: the child that measures a case, and everything that a case forks."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from attnprof.measure.mailbox import draft
from attnprof.measure.messages import DeathAnswer, Message, message_from_line, to_line
from attnprof.measure.worker import owner
from attnprof.measure.worker.connection import Connection

# linux/prctl.h
_SET_PARENT_DEATH_SIGNAL, _SET_CHILD_SUBREAPER = 1, 36
_POLL_SECONDS = 0.2
_ENDING_SECONDS = 0.005
_END_SECONDS = 5.0  # in which a killed process has ended, unless the kernel holds it
_FIRST_TO_KILL = "1000"  # proc_pid_oom_score_adj(5)


class Children:
    """The children of this process, and theirs: those whose parents have ended become its own.

    Args:
        connection: the connection to the command.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._draft = draft()
        self._pid = os.getpid()
        if sys.platform == "linux":
            _prctl(_SET_CHILD_SUBREAPER, 1)

    def answer(self, number: int, serve: Callable[[], Message]) -> Message:
        """Return the answer that a forked child finds, or a message that it ended without one.

        Args:
            number: the number of the request.
            serve: finds the answer, in the child.
        """
        self._draft.clear()
        # From here on this process sees by itself that the command has gone, and ends its children before itself.
        _prctl(_SET_PARENT_DEATH_SIGNAL, 0)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})  # for `sigtimedwait`
        pid = os.fork()
        if pid == 0:
            self._be_the_child(serve)
        exit_code = self._end_of(pid)
        self.end_all()
        with suppress(ValueError):  # there is none
            found = message_from_line(self._draft.get())
            if exit_code == 0 and found.id == number:
                return found
        return DeathAnswer(exit_code, id=number)

    def end_all(self) -> bool:
        """Kill whatever is left of a case; return whether something was."""
        found = False
        deadline = time.monotonic() + _END_SECONDS
        while _has_children() and time.monotonic() < deadline:
            found = True
            for child in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    child.kill()
            time.sleep(_ENDING_SECONDS)
        return found

    def _be_the_child(self, serve: Callable[[], Message]) -> None:
        """Find the answer and leave it to the parent; end this process."""
        status = 1
        try:
            owner.become_owner()
            die_with(self._pid)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
            self._connection.close_requests()
            self._draft.put(to_line(serve()))
            status = 0
        except BaseException:
            # Written and not raised: the child must not go on as a second worker.
            sys.excepthook(*sys.exc_info())
        finally:
            with suppress(Exception):  # closed by the code under test
                sys.stderr.flush()
            owner.exit_at_once(status)

    def _end_of(self, pid: int) -> int:
        """Wait for a child; return its exit code, negative for a signal."""
        while True:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            if self._connection.command_has_gone():
                self.end_all()
                owner.exit_at_once(0)
            signal.sigtimedwait({signal.SIGCHLD}, _POLL_SECONDS)


def die_with(parent: int) -> None:
    """On Linux, do not outlive a parent that is killed (prctl(2), PR_SET_PDEATHSIG)."""
    if sys.platform == "linux":
        _prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent:  # it has ended before
            owner.exit_at_once(1)


def be_killed_first() -> None:
    """Let the kernel kill this process before any other, if the machine runs out of memory."""
    with suppress(OSError):  # not on Linux
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_KILL)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value))


def _has_children() -> bool:
    """Return whether this process has children, after it has taken the exit codes of those that ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True
