"""The messages between the command and the worker: one JSON object a line. Needs no torch.

The command sends a request through a pipe. The worker leaves the passes that it enters and then one answer in the
mailbox; a worker that forks reports the death of its child in place of the answer. Once started, and before any
request, it reports that it is ready. A request has a number, and everything that belongs to it has that number too.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from attnprof.cases.decoding import convert_text
from attnprof.cases.device_state import DeviceState
from attnprof.cases.environment import Environment
from attnprof.cases.measurement import Result, Source
from attnprof.cases.settings import Settings


class _Numbered(msgspec.Struct, frozen=True, kw_only=True):
    """A message with the number of the request that it is, or belongs to."""

    id: int = 0


class OpenRequest(_Numbered, frozen=True, tag_field="verb", tag="open"):
    """A request to open a device; the answer is a `DeviceAnswer`."""

    device: str


class StateRequest(_Numbered, frozen=True, tag_field="verb", tag="state"):
    """A request for the device's state; the answer is a `StateAnswer`."""


class RateRequest(_Numbered, frozen=True, tag_field="verb", tag="rate"):
    """A request to measure the rate of matrix products in a dtype; the answer is a `RateAnswer`."""

    dtype: str


class CaseRequest(_Numbered, frozen=True, tag_field="verb", tag="measure"):
    """A request to measure a case, in the form of `Case.to_json`; the answer is a `CaseAnswer`."""

    case: dict[str, Any]
    settings: Settings


Request = OpenRequest | StateRequest | RateRequest | CaseRequest


class ReadyMessage(_Numbered, frozen=True, tag_field="event", tag="ready"):
    """The worker has started and takes requests."""


class PhasesMessage(_Numbered, frozen=True, tag_field="event", tag="phases"):
    """The passes of a case that have begun, in their order."""

    names: tuple[str, ...]


class DeathAnswer(_Numbered, frozen=True, tag_field="event", tag="death"):
    """The forked child ended before it answered; a negative exit code is a signal's number."""

    exit_code: int


class RefusalAnswer(_Numbered, frozen=True, tag_field="event", tag="refusal"):
    """The request cannot be served."""

    reason: str


class DeviceAnswer(_Numbered, frozen=True, tag_field="event", tag="device"):
    """The device is open."""

    environment: Environment
    source: Source


class StateAnswer(_Numbered, frozen=True, tag_field="event", tag="state"):
    """The device's state.

    Attributes:
        retires: whether the worker ends after this answer, since memory stays allocated on its device.
    """

    state: DeviceState
    retires: bool = False


class RateAnswer(_Numbered, frozen=True, tag_field="event", tag="rate"):
    """The rate of a large matrix product; `retires` as in `StateAnswer`."""

    flops_per_second: float
    retires: bool = False


class CaseAnswer(_Numbered, frozen=True, tag_field="event", tag="case"):
    """A case's outcome and numbers; `retires` as in `StateAnswer`."""

    result: Result
    retires: bool = False


ServedAnswer = StateAnswer | RateAnswer | CaseAnswer
Answer = ReadyMessage | RefusalAnswer | DeviceAnswer | ServedAnswer
Message = PhasesMessage | DeathAnswer | Answer
M = TypeVar("M", bound=Request | Message)


def numbered(message: M, number: int) -> M:
    """Return a message with the number of the request that it is, or belongs to."""
    return msgspec.structs.replace(message, id=number)


def to_line(message: Request | Message) -> bytes:
    """Return a message as a line, its end included. What is no Unicode in its texts is escaped."""
    try:
        return msgspec.json.encode(message) + b"\n"
    except UnicodeEncodeError:  # the error or a name of a user's model can contain lone surrogates
        return msgspec.json.encode(_as_unicode(msgspec.to_builtins(message))) + b"\n"


def _as_unicode(value: Any) -> Any:
    r"""Return a JSON value with an escape, such as `\udcff`, in place of every surrogate."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_as_unicode(name): _as_unicode(one) for name, one in value.items()}
    return [_as_unicode(one) for one in value] if isinstance(value, list | tuple) else value


def request_from_line(line: bytes) -> Request:
    """Return the request that a line contains.

    Raises:
        ValueError: it contains none; the message is one line.
    """
    request: Request = convert_text(line, Request)
    return request


def message_from_line(line: bytes) -> Message:
    """Return the worker's message that a line contains.

    Raises:
        ValueError: it contains none; the message is one line.
    """
    message: Message = convert_text(line, Message)
    return message
