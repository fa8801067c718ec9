"""A CUDA card as the device under measurement."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import time
from collections.abc import Callable

import torch

from attnprof.cases.device_state import DeviceState
from attnprof.cases.environment import Environment
from attnprof.measure.worker.devices import nvml
from attnprof.measure.worker.devices.base import Reading, RealDevice, common_facts
from attnprof.measure.worker.passes.kernels import kernel_refusals


class CudaDevice(RealDevice):
    """A CUDA card. Its numbers are those of PyTorch's caching allocator."""

    forks = False

    def __init__(self, index: int) -> None:
        self.name = f"cuda:{index}"
        self._index = index
        torch.cuda.set_device(index)
        torch.cuda.init()  # type: ignore[no-untyped-call]

    def environment(self) -> Environment:
        properties = torch.cuda.get_device_properties(self._index)
        settings = (
            "PYTORCH_ALLOC_CONF",
            "PYTORCH_CUDA_ALLOC_CONF",
            "CUBLAS_WORKSPACE_CONFIG",
            "PYTORCH_NO_CUDA_MEMORY_CACHING",
        )
        return Environment(
            **common_facts(),
            device=self.name,
            device_name=properties.name,
            compute_capability=f"{properties.major}.{properties.minor}",
            total_memory_bytes=properties.total_memory,
            driver=_driver_version(),
            cuda=torch.version.cuda,
            cudnn=_cudnn_version(),
            tf32={
                "matmul": torch.backends.cuda.matmul.allow_tf32,
                "cudnn": torch.backends.cudnn.allow_tf32,
            },
            allocator={name: os.environ[name] for name in settings if name in os.environ},
        )

    def state(self) -> DeviceState:
        kernels = kernel_refusals(self.name)
        self.clean()
        free, total = torch.cuda.mem_get_info(self._index)
        others, unnamed = nvml.other_processes(self._uuid())
        return DeviceState(free, total, kernels, others, unnamed)

    def enforce_budget(self, budget_bytes: int | None) -> int:
        total = torch.cuda.get_device_properties(self._index).total_memory
        if budget_bytes is None or budget_bytes >= total:
            torch.cuda.set_per_process_memory_fraction(1.0, self._index)
            return total
        # A card of that size would have the context on it too.
        share = max(0, budget_bytes - self._context_bytes()) / total
        torch.cuda.set_per_process_memory_fraction(share, self._index)
        return budget_bytes

    def allocated_bytes(self, tensors: list[torch.Tensor]) -> int:
        return torch.cuda.memory_allocated(self._index)

    def read(self, step: Callable[[], None]) -> Reading:
        torch.cuda.synchronize(self._index)
        torch.cuda.reset_peak_memory_stats(self._index)
        before = torch.cuda.memory_allocated(self._index)
        step()
        torch.cuda.synchronize(self._index)
        found = torch.cuda.memory_stats_as_nested_dict(self._index)
        allocated, reserved = found["allocated_bytes"]["all"], found["reserved_bytes"]["all"]
        return Reading(
            allocated["peak"] - before,
            allocated["current"] - before,
            reserved_bytes=reserved["peak"],
            device_bytes=self._used_bytes(),
            context_bytes=self._context_bytes(),
        )

    def clean(self) -> None:
        gc.collect()
        torch.cuda.synchronize(self._index)
        # The cuBLAS workspaces of all threads come from the caching allocator and stay otherwise.
        torch._C._cuda_clearCublasWorkspaces()
        torch.cuda.empty_cache()

    def emptied(self) -> bool:
        for patience_seconds in (0, 0.01, 0.1, 1):
            # An error in backward reaches us a moment before autograd's own thread lets go of its tensors.
            time.sleep(patience_seconds)
            self.clean()
            if torch.cuda.memory_reserved(self._index) == 0:
                return True
        return False

    def _context_bytes(self) -> int:
        return max(0, self._used_bytes() - torch.cuda.memory_reserved(self._index))

    def _used_bytes(self) -> int:
        """Return the bytes that this process uses on the device; those of everybody if NVML does not list it."""
        own = nvml.own_bytes(self._uuid())
        if own is not None:
            return own
        free, total = torch.cuda.mem_get_info(self._index)
        return total - free

    def _uuid(self) -> str:
        return f"GPU-{torch.cuda.get_device_properties(self._index).uuid}"


def _cudnn_version() -> int | None:
    try:
        return torch.backends.cudnn.version()  # type: ignore[no-untyped-call,no-any-return]
    except RuntimeError:  # cuDNN does not serve this card; an operation that needs it will fail
        return None


def _driver_version() -> str:
    version = nvml.driver_version()
    if version is not None:
        return version
    # The driver library itself returns the newest CUDA that it supports.
    supported = ctypes.c_int()
    try:
        library = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return "unknown"
    library.cuDriverGetVersion(ctypes.byref(supported))
    return f"CUDA {supported.value // 1000}.{supported.value % 1000 // 10}"
