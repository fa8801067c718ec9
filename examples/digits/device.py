"""The device to train on: what it is, and how much memory a step of training needs on it."""

from __future__ import annotations

import gc
import os
import platform
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

import attnprof
from digits.errors import ExampleError
from digits.quiet import quiet_stderr


class Device:
    """A device of this machine.

    Args:
        spelling: `auto`, `cpu`, `cuda` or `cuda:1`.

    Attributes:
        name: as torch spells it.

    Raises:
        ExampleError: there is no such device, or it computes nothing.
    """

    def __init__(self, spelling: str) -> None:
        try:
            with quiet_stderr():
                here = torch.cuda.is_available()
                self._device = torch.device(("cuda" if here else "cpu") if spelling == "auto" else spelling)
                torch.empty(1, device=self._device)
        except (RuntimeError, AssertionError) as error:
            raise ExampleError(f"device: cannot use {spelling!r}: {str(error).splitlines()[0]}") from None
        if self._device.type not in ("cpu", "cuda"):
            raise ExampleError(f"device: {spelling!r} is not known; use auto, cpu, cuda or cuda:1")
        if self._device.type == "cuda" and os.environ.get("ATTNPROF_GPU"):
            raise ExampleError("device: an emulated card computes nothing, so nothing is learnt on it; use cpu")
        self.name = str(self._device)
        # If not, a convolution differs from run to run, or by TF32's rounding of 5e-4, and hides the strategies.
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.allow_tf32 = False

    def facts(self) -> dict[str, object]:
        """Return what goes with every figure: device and versions."""
        is_cpu = self._device.type == "cpu"
        return {
            "device": self.name,
            "device_name": _processor_name() if is_cpu else torch.cuda.get_device_name(self._device),
            "torch": str(torch.__version__),
            "threads": torch.get_num_threads(),
            "platform": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
            "attnprof": attnprof.__version__,
        }

    def peak_bytes(self, step: Callable[[], object]) -> int:
        """Run a step and return its peak above what is allocated before it.

        On a CPU these are the requests to torch's allocator, read from the profiler; those of OpenMP's own threads
        are not among them.
        """
        self.clean()
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            before = torch.cuda.memory_allocated(self._device)
            step()
            return torch.cuda.max_memory_allocated(self._device) - before
        with quiet_stderr(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            step()
        level = peak = 0
        for change in _allocations(profiler):
            level += change
            peak = max(peak, level)
        return peak

    def clean(self) -> None:
        """Free what the last strategy left."""
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that an allocation was refused."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def _allocations(profiler: profile) -> list[int]:
    """Return the sizes of allocations (positive) and of what is freed (negative), in the order of time."""
    # The public accessors attribute allocations to operators and drop their order; the raw events keep it.
    events = [one for one in profiler.profiler.kineto_results.events() if one.name() == "[memory]"]
    return [one.nbytes() for one in sorted(events, key=lambda one: one.start_ns())]


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "CPU"
