"""The host's processor and memory as the device under measurement."""

from __future__ import annotations

import gc
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from attnprof.cases.case import Case
from attnprof.cases.device_state import DeviceState
from attnprof.cases.environment import Environment
from attnprof.cases.workload import Workload
from attnprof.measure.host_memory import (
    ResidentPeak,
    available_bytes,
    limit_process,
    other_processes,
    spare_bytes,
    total_bytes,
)
from attnprof.measure.worker.devices.base import Reading, RealDevice, common_facts
from attnprof.measure.worker.passes.flops import step_flops
from attnprof.measure.worker.passes.kernels import kernel_refusals


class CpuDevice(RealDevice):
    """The host. Its peak is the sum of requests to torch's CPU allocator, by operators and inside them.

    Known limitations: buffers that MKL, oneDNN or OpenMP allocate past torch are in the resident
    growth only; so are requests of OpenMP's worker threads, which the profiler does not see.
    """

    def __init__(self) -> None:
        self.name = "cpu"
        self.forks = hasattr(os, "fork") and sys.platform == "linux"
        # These take long once in a process, so do them here once for all forked children. None may start
        # OpenMP's or autograd's threads, which would not survive the fork.
        with _profiled():
            pass
        step_flops(Case(Workload(1, 8, 1, 1), "naive"))
        gc.freeze()  # else a child's first collection copies every page of the heap

    def environment(self) -> Environment:
        return Environment(
            **common_facts(),
            device=self.name,
            device_name=_processor_name(),
            cpu_capability=torch.backends.cpu.get_cpu_capability(),
            allocator={name: os.environ[name] for name in sorted(os.environ) if name.startswith("MALLOC_")},
        )

    def state(self) -> DeviceState:
        kernels = kernel_refusals(self.name)
        return DeviceState(available_bytes(), total_bytes(), kernels, other_processes(), no_cuda=_why_no_cuda())

    def enforce_budget(self, budget_bytes: int | None) -> int:
        spare = spare_bytes()
        limit = min(spare, budget_bytes) if budget_bytes else spare
        if self.forks:
            limit_process(limit, torch.get_num_threads())
        return limit

    def allocated_bytes(self, tensors: list[torch.Tensor]) -> int:
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
        return sum(storages.values())

    def read(self, step: Callable[[], None]) -> Reading:
        resident = ResidentPeak()
        with _profiled() as profiler:
            step()
        growth = resident.growth_bytes()
        level = peak = 0
        for change in _allocations(profiler):
            level += change
            peak = max(peak, level)
        return Reading(peak, level, resident_bytes=growth)

    def clean(self) -> None:
        gc.collect()

    def emptied(self) -> bool:
        self.clean()
        return True


def _profiled() -> profile:
    return profile(activities=[ProfilerActivity.CPU], profile_memory=True)


def _allocations(profiler: profile) -> list[int]:
    """Return the sizes of allocations (positive) and of what is freed (negative), in the order of time."""
    # Public accessors attribute allocations to ops and drop their order; the raw events keep it.
    assert profiler.profiler is not None and profiler.profiler.kineto_results is not None
    events: list[Any] = profiler.profiler.kineto_results.events()
    events = [event for event in events if event.name() == "[memory]"]
    return [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]


def _why_no_cuda() -> str:
    if torch.cuda.is_available():
        return ""
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except Exception as error:  # RuntimeError, or AssertionError from a build for the CPU alone
        return str(error)
    return "torch.cuda.is_available() is False"


def _processor_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
