"""The command's side of measuring: starts the worker, asks it, and survives whatever happens to it.

Needs no torch.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import IO, Any

from attnprof.errors import WorkerError
from attnprof.plan import Case
from attnprof.record import Measurement, Outcome, Result, Source
from attnprof.settings import Settings
from attnprof.survey import Survey

_START_SECONDS = 120.0  # importing torch from a cold network disk takes a while
_POLL_SECONDS = 0.25


class _DiedError(Exception):
    """The measuring process ended before it answered."""

    def __init__(self, exit_code: int, words: str) -> None:
        self.exit_code, self.words = exit_code, words

    @property
    def reason(self) -> str:
        how = f"signal {_signal_name(-self.exit_code)}" if self.exit_code < 0 else f"exit code {self.exit_code}"
        return f"{how}: {self.words}" if self.words else how


class _TimedOutError(Exception):
    """No answer in time; the process has been killed."""


class Runner:
    """Measures cases on one device, in a process apart that is started again when it is lost.

    Use as a context manager: the process ends with it.

    Attributes:
        environment: of the device, known after `open`.
        source: of its numbers, known after `open`.
    """

    def __init__(
        self, settings: Settings, *, environ: Mapping[str, str] | None = None, command: tuple[str, ...] = ()
    ) -> None:
        """Args:
        environ: variables for the process, beside this one's.
        command: that speaks the protocol of `worker`.
        """
        self._settings = settings
        self._environ = dict(environ or {})
        self._command = command or (sys.executable, "-m", "attnprof.measure.worker")
        self._process: _Process | None = None
        self._rates: dict[str, float] = {}
        self._stopped = False
        self.environment: dict[str, Any] = {}
        self.source = Source.MEASURED

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        self._drop()

    def stop(self) -> None:
        """From another thread: end whatever runs; its call, and any later one, raises WorkerError."""
        self._stopped = True
        process = self._process
        if process is not None:
            process.end()

    def open(self) -> None:
        """Start the process and open the device.

        Raises:
            WorkerError: no such device, or torch cannot be imported.
        """
        self._drop()
        process = self._process = _Process(self._command, self._environ)
        self._raise_if_stopped()
        try:
            process.receive(_START_SECONDS)
            answer = process.ask({"verb": "open", "device": self._settings.device}, _START_SECONDS)
        except _TimedOutError:
            raise WorkerError(f"the measuring process did not start within {_START_SECONDS:.0f} s") from None
        except _DiedError as died:
            raise WorkerError(f"the measuring process did not start: {died.reason}") from None
        if answer["event"] == "error":
            raise WorkerError(answer["reason"])
        self.environment, self.source = answer["environment"], Source(answer["source"])

    def matmul_flops_per_second(self, dtype: str) -> float:
        """The device's rate of a large matrix product, measured once.

        Raises:
            WorkerError: it cannot be measured.
        """
        if dtype not in self._rates:
            answer = self._told({"verb": "rate", "dtype": dtype}, "matrix-product rate")
            self._rates[dtype] = float(answer["flops_per_second"])
        return self._rates[dtype]

    def survey(self) -> Survey:
        """The state of the device at this moment.

        Raises:
            WorkerError: it cannot be told.
        """
        answer = self._told({"verb": "survey"}, "state")
        return Survey.from_json({name: value for name, value in answer.items() if name not in ("event", "retires")})

    def measure(
        self, case: Case, enter: Callable[[str], None] = lambda _: None, settings: Settings | None = None
    ) -> Result:
        """Measure a case; a crash, a hang or an out-of-memory is its outcome.

        Args:
            enter: told the name of each pass as it begins.
            settings: for this case alone.

        Raises:
            WorkerError: the process cannot be started any more.
        """
        settings = settings or self._settings
        request = {"verb": "measure", "case": case.to_json(), "settings": asdict(settings)}
        try:
            answer = self._opened().ask(request, settings.timeout_seconds, enter)
        except _TimedOutError:
            self._drop()
            return Result(Outcome.TIMED_OUT, f"no end after {settings.timeout_seconds:g} s (--timeout)", Measurement())
        except _DiedError as died:
            self._raise_if_stopped()
            if self._process is not None and not self._process.alive:
                self._drop()
            return Result(Outcome.CRASHED, died.reason, Measurement())
        if answer.get("retires"):
            self._drop()
        return Result.from_json(answer)

    def _told(self, request: Mapping[str, Any], what: str) -> Mapping[str, Any]:
        """The answer to a request that is no case."""
        try:
            answer = self._opened().ask(request, _START_SECONDS)
        except (_DiedError, _TimedOutError) as error:
            self._drop()
            reason = error.reason if isinstance(error, _DiedError) else "no answer"
            raise WorkerError(f"the device's {what} could not be measured: {reason}") from None
        if answer.get("retires"):
            self._drop()
        return answer

    def _raise_if_stopped(self) -> None:
        if self._stopped:
            self._drop()
            raise WorkerError("stopped")

    def _opened(self) -> _Process:
        if self._process is None or not self._process.alive:
            self.open()
        assert self._process is not None
        return self._process

    def _drop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process = None


class _Process:
    """A worker process and its two pipes."""

    def __init__(self, command: tuple[str, ...], environ: Mapping[str, str]) -> None:
        # Its libraries' chatter is kept apart: the last line of it may explain a death.
        self._chatter: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `kill`
        self._chatter_before = 0  # where it stood when the last request was sent
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
        return self._popen.poll() is None

    def ask(
        self, request: Mapping[str, Any], timeout_seconds: float, enter: Callable[[str], None] = lambda _: None
    ) -> Mapping[str, Any]:
        """Send a request and wait for its answer.

        Raises:
            _TimedOutError, _DiedError
        """
        assert self._popen.stdin is not None
        self._chatter_before = self._chatter.seek(0, os.SEEK_END)
        try:
            self._popen.stdin.write(json.dumps(request).encode() + b"\n")
            self._popen.stdin.flush()
        except OSError:
            raise self._died() from None
        return self.receive(timeout_seconds, enter)

    def receive(self, timeout_seconds: float, enter: Callable[[str], None] = lambda _: None) -> Mapping[str, Any]:
        """Wait for the next answer.

        Raises:
            _TimedOutError, _DiedError
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            line = self._line(deadline)
            message: Mapping[str, Any] = json.loads(line)
            if message["event"] == "phase":
                enter(message["phase"])
            elif message["event"] == "died":
                raise _DiedError(message["exit_code"], self._last_words())
            else:
                return message

    def end(self) -> None:
        """It and whatever it has forked."""
        with suppress(OSError):  # it has ended already
            os.killpg(self._popen.pid, signal.SIGKILL)

    def kill(self) -> None:
        """End it and let go of its pipes."""
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
                raise _TimedOutError
            ready, _, _ = select.select([self._popen.stdout], [], [], min(remaining, _POLL_SECONDS))
            if ready:
                chunk = os.read(self._popen.stdout.fileno(), 2**16)
                if not chunk:
                    raise self._died()
                self._received += chunk
        line, _, self._received = self._received.partition(b"\n")
        return line

    def _died(self) -> _DiedError:
        return _DiedError(self._popen.wait(), self._last_words())

    def _last_words(self) -> str:
        self._chatter.seek(self._chatter_before)
        lines = self._chatter.read().decode("utf-8", "replace").strip().splitlines()
        # The profiler's tracing marks explain nothing.
        lines = [line for line in lines if not line.startswith("USDT:")]
        return lines[-1].strip() if lines else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
