"""A device's state: free memory, usable kernels, and the processes that use it. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from attnprof.cases.decoding import Bytes

# Reasons that a card's processes cannot be listed and that a user can do something about.
NO_BINDINGS = "nvidia-ml-py is not installed"
IN_CONTAINER = "NVML does not know the processes of this container"


@dataclass(frozen=True)
class OtherProcess:
    """A process, other than attnprof's, that holds memory of the device.

    Attributes:
        pid: its number.
        name: its name; "" if it is not known.
        held_bytes: the memory that it holds; None if that is not known.
    """

    pid: int
    name: str
    held_bytes: Bytes | None


@dataclass(frozen=True)
class DeviceState:
    """The state of a device at one moment.

    Attributes:
        free_bytes, total_bytes: its memory; on the CPU, free is what can be allocated without swapping.
        kernels: for each dtype and scaled_dot_product_attention kernel, why the kernel cannot run the block
            in its preferred layout; "" if it can.
        other_processes: those that use the device, the largest first.
        unnamed: why the processes cannot be listed; "" if they can.
        no_cuda: on the CPU, torch's words on why it finds no CUDA device; "" if it finds one.
    """

    free_bytes: Bytes
    total_bytes: Bytes
    kernels: Mapping[str, Mapping[str, str]]
    other_processes: tuple[OtherProcess, ...] = ()
    unnamed: str = ""
    no_cuda: str = ""
