"""The interface of a device under measurement.

`CpuDevice`, `CudaDevice` and `EmulatedDevice` are in files of their own; nothing else in attnprof
distinguishes them.
"""

from __future__ import annotations

import errno
import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from attnprof.cases.device_state import DeviceState
from attnprof.cases.environment import Environment
from attnprof.cases.measurement import Estimate, Source
from attnprof.emulation.watch.journal import Workspace
from attnprof.measure.worker.error_text import first_line_of, text_of
from attnprof.units import format_bytes
from attnprof.version import __version__

# The dtypes of `workload.DTYPES`, by the same names.
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16, "fp64": torch.float64}

# The words of torch and the libraries under it for an allocation that was refused.
_OUT_OF_MEMORY_WORDS = (
    "out of memory",
    "can't allocate memory",
    "Cannot allocate memory",
    "not enough memory",
    "bad_alloc",
    "ALLOC_FAILED",
    "could not create a memory",
)


class DeviceError(Exception):
    """The device that was asked for is not here."""


@dataclass(frozen=True)
class Reading:
    """A step's effect on the device's memory, above what was allocated before it.

    Attributes:
        peak_bytes: at the highest moment.
        left_bytes: after the step.
        reserved_bytes, device_bytes, context_bytes, resident_bytes: as in `measurement.Memory`.
    """

    peak_bytes: int
    left_bytes: int
    reserved_bytes: int | None = None
    device_bytes: int | None = None
    context_bytes: int | None = None
    resident_bytes: int | None = None


class Device(Protocol):
    """A device that cases run on.

    Attributes:
        name: `cpu` or `cuda:0`.
        forks: whether a case runs in a forked child rather than in the worker itself.
        source: whether its numbers are measured. An emulated device has memory alone: no values, no time.
    """

    name: str
    forks: bool
    source: Source

    def environment(self) -> Environment:
        """Return what must agree for two records to be compared."""

    def state(self) -> DeviceState:
        """Return its free memory, its usable kernels and the processes that use it."""

    def enforce_budget(self, budget_bytes: int | None) -> int:
        """Enforce the budget, or without one what the device can spare; return that limit in bytes."""

    def allocated_bytes(self, tensors: list[torch.Tensor]) -> int:
        """Return the bytes that these tensors take."""

    def read(self, step: Callable[[], None]) -> Reading:
        """Run a step and read its memory."""

    def clean(self) -> None:
        """Free the memory that nobody uses any more."""

    def emptied(self) -> bool:
        """Free the case's memory; return False if some is still allocated."""

    def forget(self) -> None:
        """Begin a case: forget the calls of those before."""

    def unknown_calls(self) -> tuple[str, ...]:
        """Return the calls of the case that this device could not answer, so that its numbers cannot be trusted."""

    def estimated(self, step: Callable[[], None]) -> Estimate | None:
        """Return an estimate of a step's time on the card that is emulated; None if time can be measured."""

    def workspaces(self) -> list[Workspace] | None:
        """Return the blocks that libraries took as workspaces; None if the device does not tell."""

    def notes(self) -> tuple[str, ...]:
        """Return warnings about the case's numbers, a line each."""


class RealDevice:
    """A device that really computes: the methods that matter for an emulated one only."""

    source = Source.MEASURED

    def forget(self) -> None:
        """Do nothing: no calls are kept."""

    def unknown_calls(self) -> tuple[str, ...]:
        """Return nothing: every call is answered."""
        return ()

    def estimated(self, step: Callable[[], None]) -> Estimate | None:
        """Return None: time can be measured."""
        return None

    def workspaces(self) -> list[Workspace] | None:
        """Return None: real libraries do not tell."""
        return None

    def notes(self) -> tuple[str, ...]:
        """Return nothing: the numbers are the device's own."""
        return ()


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that an allocation was refused."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(words in text_of(error) for words in _OUT_OF_MEMORY_WORDS)


def refusal(error: BaseException, limit_bytes: int) -> str:
    """Return one line on an allocation that was refused."""
    words = first_line_of(error)
    words = words.partition(" If reserved but unallocated memory is large")[0]  # torch's standing advice
    return f"limit {format_bytes(limit_bytes)}: {words}"


def common_facts() -> dict[str, Any]:
    """Return the facts of `Environment` that do not depend on the device."""
    return {
        "attnprof": __version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "threads": torch.get_num_threads(),
        "matmul_precision": torch.get_float32_matmul_precision(),
    }
