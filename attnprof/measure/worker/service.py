"""The worker's answers: an open device, and a function for each kind of request."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import msgspec

from attnprof.cases.case import Case
from attnprof.cases.workload import ModelWorkload
from attnprof.measure.messages import (
    Answer,
    CaseAnswer,
    CaseRequest,
    DeviceAnswer,
    OpenRequest,
    PhasesMessage,
    RateAnswer,
    RateRequest,
    RefusalAnswer,
    Request,
    StateAnswer,
    StateRequest,
    numbered,
)
from attnprof.measure.worker.case import measure
from attnprof.measure.worker.connection import Connection
from attnprof.measure.worker.departures import departures_noted, hang_noted
from attnprof.measure.worker.devices.base import Device, DeviceError
from attnprof.measure.worker.devices.select import open_device
from attnprof.measure.worker.passes.flops import matmul_flops_per_second
from attnprof.measure.worker.process_state import ProcessState

_SERVED = (StateAnswer, RateAnswer, CaseAnswer)


class Service:
    """A device and the requests that it can serve.

    Args:
        connection: takes the passes of a case to the command, and the place where a model ends the process.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._device: Device | None = None
        self._served: dict[type[Any], Callable[[Device, Any], Answer]] = {
            StateRequest: self._state,
            RateRequest: self._rate,
            CaseRequest: self._case,
        }

    def forks(self, request: Request) -> bool:
        """Return whether a request is served in a forked child."""
        if self._device is None or isinstance(request, OpenRequest):
            return False
        # A forked child cannot find out why there is no CUDA.
        return self._device.forks and not isinstance(request, StateRequest)

    def answer(self, request: Request) -> Answer:
        """Return the answer to a request, with its number."""
        return numbered(self._answer(request), request.id)

    def _answer(self, request: Request) -> Answer:
        if isinstance(request, OpenRequest):
            return self._opened(request)
        if self._device is None:
            return RefusalAnswer("no device is open")
        return self._served[type(request)](self._device, request)

    def cleaned_up(self, answer: Answer) -> Answer:
        """Free the device's memory behind a request; return the answer, with whether the worker retires."""
        if self._device is None or not isinstance(answer, _SERVED):
            return answer
        emptied = self._device.emptied()
        gc.freeze()  # only modules are left: the next collections need not look at them
        return msgspec.structs.replace(answer, retires=answer.retires or not emptied)

    def _opened(self, request: OpenRequest) -> Answer:
        try:
            self._device = open_device(request.device)
        except DeviceError as error:
            return RefusalAnswer(str(error))
        return DeviceAnswer(self._device.environment(), self._device.source)

    def _state(self, device: Device, request: StateRequest) -> Answer:
        return StateAnswer(device.state())

    def _rate(self, device: Device, request: RateRequest) -> Answer:
        return RateAnswer(matmul_flops_per_second(device, request.dtype))

    def _case(self, device: Device, request: CaseRequest) -> Answer:
        case = Case.from_json(request.case)
        entered: list[str] = []

        def enter(name: str) -> None:
            entered.append(name)
            self._connection.show(PhasesMessage(tuple(entered), id=request.id))

        if not isinstance(case.workload, ModelWorkload):
            return CaseAnswer(measure(case, request.settings, device, enter))
        before = None if device.forks else ProcessState()
        with (
            departures_noted(self._connection.place, case.workload.target, forked=device.forks),
            hang_noted(request.settings.timeout_seconds),
        ):
            result = measure(case, request.settings, device, enter)
        return CaseAnswer(result, retires=before is not None and bool(before.put_back()))


def retiring(answer: Answer) -> Answer:
    """Return an answer after which the worker ends, if it is an answer of an open device."""
    return msgspec.structs.replace(answer, retires=True) if isinstance(answer, _SERVED) else answer


def retires(answer: Answer) -> bool:
    """Return whether the worker ends after an answer."""
    return isinstance(answer, _SERVED) and answer.retires
