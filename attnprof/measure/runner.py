"""The command's side of measuring: starts the worker, asks it, and survives whatever happens to it.

Needs no torch.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from typing import TypeVar

from attnprof.cases.cards import Card
from attnprof.cases.case import Case
from attnprof.cases.device_state import DeviceState
from attnprof.cases.environment import Environment
from attnprof.cases.measurement import Measurement, Outcome, Result, Source
from attnprof.cases.settings import Settings
from attnprof.cases.workload import ModelWorkload
from attnprof.errors import WorkerError
from attnprof.measure.channel import ShortOfMemoryError, TimedOutError, WorkerProcess
from attnprof.measure.deaths import DiedError
from attnprof.measure.host_memory import memory_limits
from attnprof.measure.messages import (
    Answer,
    CaseAnswer,
    CaseRequest,
    DeviceAnswer,
    OpenRequest,
    RateAnswer,
    RateRequest,
    RefusalAnswer,
    StateAnswer,
    StateRequest,
)
from attnprof.measure.places import fault_lines, users_line
from attnprof.measure.startup import worker_command
from attnprof.units import format_bytes

A = TypeVar("A", DeviceAnswer, StateAnswer, RateAnswer, CaseAnswer)
S = TypeVar("S", StateAnswer, RateAnswer)

_START_SECONDS = 120.0  # importing torch from a cold network disk takes a while
_SHORT = "ended before this machine ran out of memory: end other programs, or ask for less with --budget"

# The option of `ulimit` whose limit the system names by this error.
_ULIMITS = {errno.EFBIG: "-f", errno.EMFILE: "-n", errno.EAGAIN: "-u", errno.ENOMEM: "-v"}


class Runner:
    """A device and the process that measures cases on it, which is started again when it is lost.

    Use as a context manager: the process ends with it.

    Args:
        settings: of every case that brings none of its own.
        card: the card that `environ` emulates; None for a device of this machine.
        environ: variables for the process, beside this one's.
        command: a program that speaks the protocol of `attnprof.measure.messages`.

    Attributes:
        card: the card that is emulated for this runner alone, or None.
        source: where its numbers come from, known after `open`.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        card: Card | None = None,
        environ: Mapping[str, str] | None = None,
        command: tuple[str, ...] = (),
    ) -> None:
        self.card = card
        self._settings = settings
        self._environ = dict(environ or {})
        self._command = command or worker_command()
        self._process: WorkerProcess | None = None
        self._rates: dict[str, float] = {}
        self._stopped = False
        self._environment: Environment | None = None
        self.source = Source.MEASURED

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        self._drop()

    @property
    def environment(self) -> Environment:
        """The environment of the device, known after `open`."""
        assert self._environment is not None
        return self._environment

    @property
    def card_name(self) -> str | None:
        """The emulated card, as `--gpu` spells it and records name it, known after `open`; None if there is none."""
        return self.environment.gpu if self.source is Source.EMULATED else None

    def stop(self) -> None:
        """End whatever runs, from another thread; its call, and any later one, raises WorkerError."""
        self._stopped = True
        process = self._process
        if process is not None:
            process.end()

    def open(self) -> None:
        """Start the process and open the device.

        Raises:
            WorkerError: there is no such device, or torch cannot be imported.
        """
        try:
            answer = self._started()
        except DiedError as died:
            if not died.killed:
                raise _not_started(died.start_reason + _limit_hint()) from None
            try:
                answer = self._started()  # once more: something outside has killed it
            except DiedError as again:
                raise _not_started(again.start_reason + _limit_hint()) from None
        opened = _expected(answer, DeviceAnswer)
        self._environment, self.source = opened.environment, opened.source

    def _started(self) -> Answer:
        """Start the process and return its answer to the request to open the device.

        Raises:
            DiedError: it ended before.
            WorkerError: it cannot be started.
        """
        self._drop()
        self._raise_if_stopped()
        try:
            process = self._process = WorkerProcess(self._command, self._environ)
        except OSError as error:
            option = _ULIMITS.get(error.errno or 0)
            action = f"; ulimit {option} may be too low: raise it" if option else ""
            raise WorkerError(f"the measuring process cannot be started: {error.strerror}{action}") from None
        self._raise_if_stopped()
        try:
            process.receive(_START_SECONDS)
            return process.ask(OpenRequest(self._settings.device), _START_SECONDS)
        except TimedOutError:
            raise _not_started(f"no answer within {_START_SECONDS:.0f} s") from None
        except ShortOfMemoryError:
            raise _not_started(_SHORT) from None
        except DiedError:
            self._raise_if_stopped()
            raise

    def matmul_flops_per_second(self, dtype: str) -> float:
        """Return the device's rate of a large matrix product, measured once.

        Raises:
            WorkerError: it cannot be measured.
        """
        if dtype not in self._rates:
            answer = self._served(RateRequest(dtype), RateAnswer, "matrix-product rate")
            self._rates[dtype] = answer.flops_per_second
        return self._rates[dtype]

    def device_state(self) -> DeviceState:
        """Return the state of the device at this moment.

        Raises:
            WorkerError: it cannot be found out.
        """
        return self._served(StateRequest(), StateAnswer, "state").state

    def measure(
        self, case: Case, enter: Callable[[str], None] = lambda _: None, settings: Settings | None = None
    ) -> Result:
        """Measure a case; a crash, a hang or an out-of-memory is its outcome.

        Args:
            case: the case.
            enter: called with the name of each pass as it begins.
            settings: for this case alone.

        Returns:
            The outcome and the numbers.

        Raises:
            WorkerError: the process cannot be started any more.
        """
        settings = settings or self._settings
        target = case.workload.target if isinstance(case.workload, ModelWorkload) else ""
        request = CaseRequest(case.to_json(), settings)
        try:
            answer = _expected(self._asked(request, settings.timeout_seconds, enter), CaseAnswer)
        except TimedOutError as error:
            self._drop()
            line = users_line(fault_lines(error.output), target) if target else None
            reason = f"no end after {settings.timeout_seconds:g} s (--timeout)" + (f": {line}" if line else "")
            return Result(Outcome.TIMED_OUT, reason, Measurement())
        except ShortOfMemoryError:
            self._drop()
            return Result(Outcome.OUT_OF_MEMORY, _SHORT, Measurement())
        except DiedError as died:
            self._raise_if_stopped()
            if self._process is not None and not self._process.alive:
                self._drop()
            return Result(Outcome.CRASHED, died.reason(target), Measurement())
        if answer.retires:
            self._drop()
        return answer.result

    def _asked(self, request: CaseRequest, timeout_seconds: float, enter: Callable[[str], None]) -> Answer:
        """Return the answer to a case; ask a new process if this one ended before the case began."""
        try:
            return self._opened().ask(request, timeout_seconds, enter)
        except DiedError as died:
            if died.began:
                raise
            self._drop()
            return self._opened().ask(request, timeout_seconds, enter)

    def _served(self, request: StateRequest | RateRequest, kind: type[S], what: str) -> S:
        """Return the answer to a request that is no case."""
        try:
            answer = _expected(self._opened().ask(request, _START_SECONDS), kind)
        except (DiedError, TimedOutError, ShortOfMemoryError) as error:
            self._drop()
            reason = error.start_reason if isinstance(error, DiedError) else "no answer"
            reason = _SHORT if isinstance(error, ShortOfMemoryError) else reason
            raise WorkerError(f"the device's {what} could not be measured: {reason}") from None
        if answer.retires:
            self._drop()
        return answer

    def _raise_if_stopped(self) -> None:
        if self._stopped:
            self._drop()
            raise WorkerError("stopped")

    def _opened(self) -> WorkerProcess:
        if self._process is None or not self._process.alive:
            self.open()
        assert self._process is not None
        return self._process

    def _drop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process = None


def _expected(answer: Answer, kind: type[A]) -> A:
    """Return an answer of the kind that was asked for.

    Raises:
        WorkerError: the worker refused, or answered something else.
    """
    if isinstance(answer, kind):
        return answer
    reason = answer.reason if isinstance(answer, RefusalAnswer) else f"it answered {type(answer).__name__}"
    raise WorkerError(reason)


def _not_started(reason: str) -> WorkerError:
    return WorkerError(f"the measuring process did not start: {reason}")


def _limit_hint() -> str:
    """Return what to do about a limit of the user's under which torch may not load; "" if there is none."""
    limits = [f"{option} {format_bytes(limit)}" for option, limit in memory_limits().items()]
    return f"; ulimit {', '.join(limits)} may be too little for torch: raise it" if limits else ""
