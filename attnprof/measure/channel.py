"""The process that measures, seen from the command: its pipes, its mailbox, its death and its time-out."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import msgspec
import psutil

from attnprof.measure.deaths import DiedError
from attnprof.measure.host_memory import HostGuard
from attnprof.measure.mailbox import Mailbox, mailbox_file
from attnprof.measure.messages import (
    Answer,
    DeathAnswer,
    PhasesMessage,
    Request,
    message_from_line,
    numbered,
    to_line,
)

_POLL_SECONDS = 0.1
_CHUNK_BYTES = 2**16
_LAST_STANDARD = 2  # stderr
_KEPT_BYTES = 2**16  # of the end of what the process writes: its last line, or a dump, may explain a death


class TimedOutError(Exception):
    """The answer did not come in time; the process has been killed.

    Args:
        output: the end of what it wrote.
    """

    def __init__(self, output: str) -> None:
        super().__init__()
        self.output = output


class ShortOfMemoryError(Exception):
    """The machine had almost no memory left; the process has been killed."""


class WorkerProcess:
    """A worker process, the pipe of requests to it, and the mailbox and the pipes from it.

    Args:
        command: the program and its arguments; a last one is added, which describes the channel.
        environ: variables for the process, beside this one's.

    Raises:
        OSError: the process cannot be started.
    """

    def __init__(self, command: tuple[str, ...], environ: Mapping[str, str]) -> None:
        self._output = b""  # its end, since the last request
        self._number = 0
        self._guard = HostGuard()
        self._open: set[int] = set()
        try:
            self._start(command, environ)
        except BaseException:
            self._close()
            raise

    def _start(self, command: tuple[str, ...], environ: Mapping[str, str]) -> None:
        requests, self._requests = self._pipe()
        self._bell, bell = self._pipe()
        self._chatter, chatter = self._pipe()
        mailbox = self._kept(mailbox_file())
        self._mailbox = Mailbox(mailbox)
        channel = {
            "descriptors": {"requests": requests, "bell": bell, "mailbox": mailbox},
            "command_pid": os.getpid(),
        }
        self._popen = subprocess.Popen(
            (*command, msgspec.json.encode(channel).decode()),
            stdin=subprocess.DEVNULL,
            stdout=chatter,
            stderr=chatter,
            pass_fds=(requests, bell, mailbox),
            # A session of its own: Ctrl-C reaches the command, which then ends the worker.
            start_new_session=True,
            env={**os.environ, "KINETO_LOG_LEVEL": "99", **environ},
        )
        for descriptor in (requests, bell, chatter, mailbox):
            self._close(descriptor)
        for descriptor in (self._bell, self._chatter):
            os.set_blocking(descriptor, False)

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._popen.poll() is None

    def ask(self, request: Request, timeout_seconds: float, enter: Callable[[str], None] = lambda _: None) -> Answer:
        """Send a request and wait for its answer.

        Args:
            request: the request.
            timeout_seconds: the longest wait for the answer.
            enter: called with the name of each pass as it begins.

        Raises:
            DiedError: the process ended first.
            TimedOutError: there is no answer in time.
            ShortOfMemoryError: the machine runs out of memory.
        """
        self._number += 1
        self._guard = HostGuard()
        self._drain()
        self._output = b""
        self._mailbox.answer.clear()
        self._mailbox.phase.clear()
        self._mailbox.place.clear()
        with suppress(OSError):  # it has ended, which `receive` sees
            os.write(self._requests, to_line(numbered(request, self._number)))
        return self.receive(timeout_seconds, enter)

    def receive(self, timeout_seconds: float, enter: Callable[[str], None] = lambda _: None) -> Answer:
        """Wait for the answer to the last request. Arguments and errors are those of `ask`."""
        deadline = time.monotonic() + timeout_seconds
        entered = 0
        while True:
            ended = not self.alive  # before looking, so that its last answer is not missed
            for name in self._phases()[entered:]:
                entered += 1
                enter(name)
            answer = self._answer()
            if isinstance(answer, DeathAnswer):
                raise self._died(answer.exit_code, began=entered > 0)
            if answer is not None:
                return answer
            if ended:
                raise self._died(self._popen.wait(), began=entered > 0)
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                self.kill()
                raise TimedOutError(self._output.decode("utf-8", "replace"))
            if self._guard.is_due() and self._guard.is_short():
                self.kill()
                raise ShortOfMemoryError
            self._wait(min(remaining, _POLL_SECONDS))

    def end(self) -> None:
        """Kill the process and whatever it has forked."""
        family = []
        with suppress(psutil.Error):  # it has ended already
            family = psutil.Process(self._popen.pid).children(recursive=True)
        with suppress(OSError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        for process in family:  # one that has left the group
            with suppress(psutil.Error):
                process.kill()

    def kill(self) -> None:
        """End the process and let go of its pipes."""
        if self._open:
            self.end()
            self._popen.wait()
            self._close()
            self._mailbox.close()

    def _pipe(self) -> tuple[int, int]:
        reader, writer = os.pipe()
        return self._kept(reader), self._kept(writer)

    def _kept(self, descriptor: int) -> int:
        """Return a descriptor that `_close` will close, above those of the standard streams, which may be closed."""
        while descriptor <= _LAST_STANDARD:
            self._open.add(descriptor)
            descriptor = os.dup(descriptor)
        self._open.add(descriptor)
        return descriptor

    def _close(self, *descriptors: int) -> None:
        """Close descriptors, all if none is named."""
        for descriptor in descriptors or tuple(self._open):
            os.close(descriptor)
            self._open.discard(descriptor)

    def _wait(self, seconds: float) -> None:
        """Wait until the process rings or writes something, at most this long."""
        poll = select.poll()
        for descriptor in (self._bell, self._chatter):
            if descriptor in self._open:
                poll.register(descriptor, select.POLLIN)
        poll.poll(seconds * 1000)
        self._drain()

    def _drain(self) -> None:
        """Read what the process rang and wrote; the bell means nothing but that the mailbox is worth a look."""
        self._read(self._bell)
        self._output = (self._output + self._read(self._chatter))[-_KEPT_BYTES:]

    def _read(self, descriptor: int) -> bytes:
        if descriptor not in self._open:
            return b""
        try:
            found = os.read(descriptor, _CHUNK_BYTES)
        except BlockingIOError:
            return b""
        if not found:  # closed: watching it any longer would return at once
            self._close(descriptor)
        return found

    def _phases(self) -> tuple[str, ...]:
        with suppress(ValueError):  # none yet
            found = message_from_line(self._mailbox.phase.get())
            if isinstance(found, PhasesMessage) and found.id == self._number:
                return found.names
        return ()

    def _answer(self) -> Answer | DeathAnswer | None:
        """Return the answer to the last request, if it is there; one to another request is none."""
        line = self._mailbox.answer.get()
        if not line:
            return None
        try:
            found = message_from_line(line)
        except ValueError as error:
            self.kill()
            raise DiedError(f"it sent what is no message: {error}") from None
        return None if isinstance(found, PhasesMessage) or found.id != self._number else found

    def _died(self, exit_code: int, *, began: bool) -> DiedError:
        for _ in range(2 * _KEPT_BYTES // _CHUNK_BYTES):
            self._drain()
        place = self._mailbox.place.get().decode("utf-8", "replace")
        output = self._output.decode("utf-8", "replace")
        return DiedError(exit_code=exit_code, place=place, output=output, began=began)
