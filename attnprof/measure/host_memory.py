"""The memory that this host can spare, and a hard limit on what a case may take of it. Needs no torch."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import psutil

from attnprof.cases.device_state import OtherProcess
from attnprof.measure.cgroups import memory_cgroups

_SPARE_SHARE = 0.9  # of what is available; the rest stays for everybody else
_NOTABLE_SHARE = 0.05  # of the total, from which a process is worth naming
_GUARDED_SHARE = 0.4  # of what stays for everybody else, below which a case is ended
_LOOK_SECONDS = 0.05
_STACK_BYTES = 8 * 2**20  # of a thread at most, pthread_attr_setstacksize(3)
_SLACK_BYTES = 256 * 2**20  # library buffers and heap fragments beside torch's requests


def available_bytes() -> int:
    """Return the bytes that this process can allocate: without swapping, within a container's and its user's limits."""
    return min(host_available_bytes(), *_left_by_limits(), sys.maxsize)


def host_available_bytes() -> int:
    """Return the bytes that all processes together can still allocate, within the limits of a container."""
    return min([psutil.virtual_memory().available, *(max(0, limit - used) for limit, used in _cgroups())])


def total_bytes() -> int:
    """Return the bytes of this host's memory, or the part that a container may take."""
    return min([psutil.virtual_memory().total, *(limit for limit, _ in _cgroups())])


def spare_bytes() -> int:
    """Return the bytes that one case may take without endangering the host."""
    return int(available_bytes() * _SPARE_SHARE)


def memory_limits() -> dict[str, int]:
    """Return the limits that the user has set on a process's memory, in bytes, by the option of `ulimit`."""
    if sys.platform != "linux":
        return {}
    limits = {"-v": _limit("RLIMIT_AS"), "-d": _limit("RLIMIT_DATA")}
    return {option: limit for option, limit in limits.items() if limit is not None}


class HostGuard:
    """A watch over the host's memory while a case runs, whatever takes it and however.

    `limit_process` does not see memory that processes share, files in memory, or what many processes take together.
    """

    def __init__(self) -> None:
        # The spare share leaves more than twice this.
        self._least_bytes = int(host_available_bytes() * (1 - _SPARE_SHARE) * _GUARDED_SHARE)
        self._looked_seconds = time.monotonic()

    def is_due(self) -> bool:
        """Return whether it is time for another look, which takes a moment."""
        return time.monotonic() - self._looked_seconds > _LOOK_SECONDS

    def is_short(self) -> bool:
        """Return whether so little memory is left that the host is in danger."""
        self._looked_seconds = time.monotonic()
        return host_available_bytes() < self._least_bytes


def other_processes() -> tuple[OtherProcess, ...]:
    """Return the other processes that hold a notable part of the memory, the largest first."""
    notable_bytes, own = total_bytes() * _NOTABLE_SHARE, (os.getpid(), os.getppid())
    found = []
    for process in psutil.process_iter(["name", "memory_info"]):
        memory = process.info["memory_info"]  # None for a process of another user
        if memory is not None and memory.rss >= notable_bytes and process.pid not in own:
            found.append(OtherProcess(process.pid, process.info["name"] or "", memory.rss))
    return tuple(sorted(found, key=lambda process: -(process.held_bytes or 0)))


def limit_process(extra_bytes: int, threads: int = 1) -> None:
    """Let this process's private data grow by `extra_bytes`; beyond that, allocations fail.

    Linux counts private writable mappings, touched or not (getrlimit(2), RLIMIT_DATA), so a request
    that is too large fails at once and nothing is swapped or killed. Other systems have no such
    limit and nothing is done there. A lower limit of the user's stays.

    Args:
        extra_bytes: what the case may take.
        threads: how many threads may start, whose stacks count as data.
    """
    if sys.platform != "linux":
        return
    import resource

    stack = _limit("RLIMIT_STACK") or _STACK_BYTES
    limit = _status_bytes("VmData") + extra_bytes + _SLACK_BYTES + threads * min(stack, _STACK_BYTES)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (min(limit, _limit("RLIMIT_DATA") or limit), hard))


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


def _limit(name: str) -> int | None:
    """Return a limit of this process (getrlimit(2)) in bytes; None for none."""
    import resource

    soft, _ = resource.getrlimit(getattr(resource, name))
    return None if soft == resource.RLIM_INFINITY else soft


def _left_by_limits() -> list[int]:
    """Return the bytes that each of the user's limits on this process leaves."""
    if sys.platform != "linux":
        return []
    limits = (_limit("RLIMIT_AS"), "VmSize"), (_limit("RLIMIT_DATA"), "VmData")
    return [max(0, limit - _status_bytes(used)) for limit, used in limits if limit is not None]


def _cgroups() -> list[tuple[int, int]]:
    """Return limit and usage, in bytes, of each control group that limits this process."""
    return list(filter(None, (group.limit_and_used_bytes() for group in memory_cgroups())))
