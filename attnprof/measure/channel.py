"""The process that measures, seen from the command: its two pipes, its death and its time-out."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import IO

from attnprof.measure.messages import Answer, DeathMessage, PhaseMessage, Request, message_from_line, to_line

_POLL_SECONDS = 0.25


class DiedError(Exception):
    """The measuring process ended before it answered; `reason` is one line."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TimedOutError(Exception):
    """The answer did not come in time; the process has been killed."""


class WorkerProcess:
    """A worker process and its two pipes.

    Args:
        command: the program and its arguments.
        environ: variables for the process, beside this one's.
    """

    def __init__(self, command: tuple[str, ...], environ: Mapping[str, str]) -> None:
        # The chatter of its libraries is kept apart: its last line may explain a death.
        self._chatter: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `kill`
        self._chatter_before = 0  # its length when the last request was sent
        self._received = b""
        # A session of its own: Ctrl-C reaches the command, which then ends the worker.
        self._popen = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._chatter,
            start_new_session=True,
            env={**os.environ, "KINETO_LOG_LEVEL": "99", **environ},
        )

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
            DiedError: the process ended first, or sent what is no message.
            TimedOutError: there is no answer in time.
        """
        assert self._popen.stdin is not None
        self._chatter_before = self._chatter.seek(0, os.SEEK_END)
        try:
            self._popen.stdin.write(to_line(request))
            self._popen.stdin.flush()
        except OSError:
            raise self._died() from None
        return self.receive(timeout_seconds, enter)

    def receive(self, timeout_seconds: float, enter: Callable[[str], None] = lambda _: None) -> Answer:
        """Wait for the next answer. Arguments and errors are those of `ask`."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            line = self._line(deadline)
            try:
                message = message_from_line(line)
            except ValueError as error:
                self.kill()
                raise DiedError(f"it sent what is no message: {error}") from None
            if isinstance(message, PhaseMessage):
                enter(message.name)
            elif isinstance(message, DeathMessage):
                raise DiedError(_death_text(message.exit_code, self._last_words()))
            else:
                return message

    def end(self) -> None:
        """Kill the process and whatever it has forked."""
        with suppress(OSError):  # it has ended already
            os.killpg(self._popen.pid, signal.SIGKILL)

    def kill(self) -> None:
        """End the process and let go of its pipes."""
        self.end()
        self._popen.wait()
        for pipe in (self._popen.stdin, self._popen.stdout, self._chatter):
            if pipe is not None:
                with suppress(OSError):  # what was buffered for a dead reader
                    pipe.close()

    def _line(self, deadline: float) -> bytes:
        assert self._popen.stdout is not None
        while b"\n" not in self._received:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                self.kill()
                raise TimedOutError
            ready, _, _ = select.select([self._popen.stdout], [], [], min(remaining, _POLL_SECONDS))
            if ready:
                chunk = os.read(self._popen.stdout.fileno(), 2**16)
                if not chunk:
                    raise self._died()
                self._received += chunk
        line, _, self._received = self._received.partition(b"\n")
        return line

    def _died(self) -> DiedError:
        return DiedError(_death_text(self._popen.wait(), self._last_words()))

    def _last_words(self) -> str:
        self._chatter.seek(self._chatter_before)
        lines = self._chatter.read().decode("utf-8", "replace").strip().splitlines()
        # The profiler's tracing marks explain nothing.
        lines = [line for line in lines if not line.startswith("USDT:")]
        return lines[-1].strip() if lines else ""


def _death_text(exit_code: int, last_words: str) -> str:
    how = f"signal {_signal_name(-exit_code)}" if exit_code < 0 else f"exit code {exit_code}"
    return f"{how}: {last_words}" if last_words else how


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
