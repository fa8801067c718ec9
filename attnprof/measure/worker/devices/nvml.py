"""Facts about a card from NVML, the driver's management library. Optional: needs nvidia-ml-py."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import psutil

from attnprof.cases.device_state import IN_CONTAINER, NO_BINDINGS, OtherProcess


@lru_cache(maxsize=1)
def nvml() -> Any:
    """Return nvidia-ml-py, started; None if it is not installed or there is no driver."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # not installed, or its own error for a missing driver library
        return None
    return pynvml


def driver_version() -> str | None:
    """Return the version of the NVIDIA driver; None without NVML."""
    library = nvml()
    if library is None:
        return None
    version = library.nvmlSystemGetDriverVersion()
    return version.decode() if isinstance(version, bytes) else str(version)


def own_bytes(uuid: str) -> int | None:
    """Return the bytes that this process takes on the card; None if NVML does not list it."""
    library = nvml()
    if library is None:
        return None
    try:
        processes = library.nvmlDeviceGetComputeRunningProcesses(library.nvmlDeviceGetHandleByUUID(uuid))
    except _errors(library):  # a card that it does not serve
        return None
    used: list[int | None] = [process.usedGpuMemory for process in processes if process.pid == os.getpid()]
    return used[0] if used else None


def other_processes(uuid: str) -> tuple[tuple[OtherProcess, ...], str]:
    """Return the other processes on the card, the largest first, and why they cannot be listed ("" if they can).

    This process must have a context there.
    """
    library = nvml()
    if library is None:
        return (), "NVML does not start here" if find_spec("pynvml") else NO_BINDINGS
    try:
        card = library.nvmlDeviceGetHandleByUUID(uuid)
        processes = list(library.nvmlDeviceGetComputeRunningProcesses(card))
    except _errors(library) as error:
        return (), f"NVML says: {error}"
    with suppress(*_errors(library)):  # a card without a display side
        processes += library.nvmlDeviceGetGraphicsRunningProcesses(card)
    held: dict[int, int | None] = {process.pid: process.usedGpuMemory for process in processes}
    # In a container NVML lists the host's numbers, or nothing (github.com/NVIDIA/nvidia-docker/issues/1483).
    if os.getpid() not in held:
        return (), IN_CONTAINER
    found = (OtherProcess(pid, _name(pid), used) for pid, used in held.items() if pid != os.getpid())
    return tuple(sorted(found, key=lambda process: -(process.held_bytes or 0))), ""


def _errors(library: Any) -> tuple[type[Exception], ...]:
    """Return NVML's own error, and that of bindings newer than the driver, which does not inherit from it."""
    return library.NVMLError, getattr(library, "NVMLLibraryMismatchError", library.NVMLError)


def _name(pid: int) -> str:
    try:
        return psutil.Process(pid).name()
    except psutil.Error:  # it has ended, or is another user's
        return ""
