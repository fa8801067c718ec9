"""What a device tells of itself beside measuring on it. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from attnprof.cases.decoding import Bytes

# Why the holders of a card cannot be told, where there is something to do about it.
NO_BINDINGS = "nvidia-ml-py is not installed"
IN_CONTAINER = "NVML does not know the processes of this container"


@dataclass(frozen=True)
class OtherProcess:
    """Another process that holds the device's memory; `name` is "" and `held_bytes` None where not told."""

    pid: int
    name: str
    held_bytes: Bytes | None


@dataclass(frozen=True)
class DeviceState:
    """The state of a device.

    Attributes:
        free_bytes, total_bytes: of its memory; on the CPU free is what can be had without swapping.
        kernels: of each dtype, each scaled_dot_product_attention kernel and why it cannot run the
            block here; "" where it can.
        other_processes: the largest first.
        unnamed: why holders cannot be told; "" where they can.
        no_cuda: on the CPU, torch's words on why it finds no CUDA device; "" where it finds one.
    """

    free_bytes: Bytes
    total_bytes: Bytes
    kernels: Mapping[str, Mapping[str, str]]
    other_processes: tuple[OtherProcess, ...] = ()
    unnamed: str = ""
    no_cuda: str = ""
