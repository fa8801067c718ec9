"""The memory that this host can spare, and a hard limit on what a case may take of it. Needs no torch."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil

from attnprof.cases.device_state import OtherProcess

_SPARE_SHARE = 0.9  # of what is available; the rest stays for everybody else
_NOTABLE_SHARE = 0.05  # of the total, from which a process is worth naming
_SLACK_BYTES = 256 * 2**20  # library buffers, thread stacks and heap fragments beside torch's requests


def available_bytes() -> int:
    """Return the bytes that can be allocated without swapping, within the limits of a container."""
    return min([psutil.virtual_memory().available, *(max(0, limit - used) for limit, used in _cgroups())])


def total_bytes() -> int:
    """Return the bytes of this host's memory, or the part that a container may take."""
    return min([psutil.virtual_memory().total, *(limit for limit, _ in _cgroups())])


def spare_bytes() -> int:
    """Return the bytes that one case may take without endangering the host."""
    return int(available_bytes() * _SPARE_SHARE)


def other_processes() -> tuple[OtherProcess, ...]:
    """Return the other processes that hold a notable part of the memory, the largest first."""
    notable_bytes, own = total_bytes() * _NOTABLE_SHARE, (os.getpid(), os.getppid())
    found = []
    for process in psutil.process_iter(["name", "memory_info"]):
        memory = process.info["memory_info"]  # None for a process of another user
        if memory is not None and memory.rss >= notable_bytes and process.pid not in own:
            found.append(OtherProcess(process.pid, process.info["name"] or "", memory.rss))
    return tuple(sorted(found, key=lambda process: -(process.held_bytes or 0)))


def limit_process(extra_bytes: int) -> None:
    """Let this process's private data grow by `extra_bytes`; beyond that, allocations fail.

    Linux counts private writable mappings, touched or not (getrlimit(2), RLIMIT_DATA), so a request
    that is too large fails at once and nothing is swapped or killed. Other systems have no such
    limit and nothing is done there.
    """
    if sys.platform != "linux":
        return
    import resource

    limit = _status_bytes("VmData") + extra_bytes + _SLACK_BYTES
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


class ResidentPeak:
    """The largest growth of this process's resident set since construction; None if unknown."""

    def __init__(self) -> None:
        self._start = 0
        try:
            # Resets the kernel's high-water mark (proc_pid_clear_refs(5)).
            Path("/proc/self/clear_refs").write_text("5")
            self._start = _status_bytes("VmRSS")
        except OSError:
            pass

    def growth_bytes(self) -> int | None:
        """Return the growth so far."""
        return max(0, _status_bytes("VmHWM") - self._start) if self._start else None


def _status_bytes(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise OSError(f"no {field} in /proc/self/status")


def _cgroups() -> list[tuple[int, int]]:
    """Return limit and usage, in bytes, of each cgroup that limits this process."""
    root = Path("/sys/fs/cgroup")
    files = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))
    found = []
    for limit, usage in files:
        try:
            found.append((int((root / limit).read_text()), int((root / usage).read_text())))
        except (OSError, ValueError):  # no such cgroup version here, or "max"
            continue
    return found
