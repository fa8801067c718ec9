"""The control groups that limit this process's memory: its own and all around it, of both versions. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

_PROC = Path("/proc/self")
# cgroup-v1/memory.rst and cgroup-v2.rst of the kernel's documentation: limits, usage, and the key in `memory.stat` of
# file cache that is given up before anything is killed.
_FILES = {
    1: (("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file"),
    2: (("memory.max", "memory.high"), "memory.current", "inactive_file"),
}


@dataclass(frozen=True)
class Cgroup:
    """A control group that can limit memory.

    Attributes:
        folder: where its files are.
        version: 1 or 2.
    """

    folder: Path
    version: int

    def limit_and_used_bytes(self) -> tuple[int, int] | None:
        """Return its limit and what is used of it; None if it does not limit memory, or cannot be read."""
        limits, usage, cache_key = _FILES[self.version]
        found = [limit for limit in map(self._number, limits) if limit is not None]
        used = self._number(usage)
        if not found or used is None:
            return None
        return min(found), max(0, used - self._file_cache_bytes(cache_key))

    def _number(self, name: str) -> int | None:
        with suppress(OSError, ValueError):  # none here, or "max"
            return int((self.folder / name).read_text())
        return None

    def _file_cache_bytes(self, key: str) -> int:
        with suppress(OSError, ValueError):
            for line in (self.folder / "memory.stat").read_text().splitlines():
                name, _, number = line.partition(" ")
                if name == key:
                    return int(number)
        return 0


@cache
def memory_cgroups(proc: Path = _PROC) -> tuple[Cgroup, ...]:
    """Return the control groups whose memory this process's counts for, its own first.

    Args:
        proc: the folder of the process in /proc.
    """
    found: list[Cgroup] = []
    with suppress(OSError, ValueError):
        mounts = list(_mounts((proc / "mountinfo").read_text()))
        for line in (proc / "cgroup").read_text().splitlines():
            number, controllers, path = line.split(":", 2)
            version = 2 if (number, controllers) == ("0", "") else 1
            if version == 1 and "memory" not in controllers.split(","):
                continue
            for mounted_version, root, folder in mounts:
                if mounted_version == version:
                    found += _up_from(folder, root, path, version)
    return tuple(dict.fromkeys(found))


def _mounts(mountinfo: str) -> Iterator[tuple[int, str, Path]]:
    """Yield version, root and folder of each mounted hierarchy that can limit memory (proc_pid_mountinfo(5))."""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        root, folder = (text.replace("\\040", " ") for text in before.split(" ")[3:5])
        if kind == "cgroup2":
            yield 2, root, Path(folder)
        elif kind == "cgroup" and "memory" in options.split(","):
            yield 1, root, Path(folder)


def _up_from(folder: Path, root: str, path: str, version: int) -> Iterator[Cgroup]:
    """Yield a group and those around it, as far up as they are mounted."""
    try:
        inside = PurePosixPath(path).relative_to(root)
    except ValueError:  # a container that sees the host's path, or another one's
        inside = PurePosixPath()
    own = folder / inside if ".." not in inside.parts else folder
    yield from (Cgroup(one, version) for one in (own, *own.parents) if one.is_relative_to(folder))
