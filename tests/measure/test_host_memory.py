"""The memory that a case may take: within control groups, the user's limits, and what the host can spare."""

import subprocess
import sys

import pytest
from support.samples import case

from attnprof.cases.measurement import Outcome
from attnprof.cases.settings import Settings
from attnprof.measure import channel, host_memory
from attnprof.measure.cgroups import Cgroup, memory_cgroups
from attnprof.measure.runner import Runner

GIB = 2**30
NO_LIMIT = 2**63 - 4096  # version 1 writes this


def group(folder, version, limit, used, cache_bytes=0, **more):
    names = {1: ("memory.limit_in_bytes", "memory.usage_in_bytes"), 2: ("memory.max", "memory.current")}[version]
    key = {1: "total_inactive_file", 2: "inactive_file"}[version]
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in {**dict(zip(names, (limit, used), strict=True)), **more}.items():
        (folder / name).write_text(f"{value}\n")
    (folder / "memory.stat").write_text(f"anon 1\n{key} {cache_bytes}\nother 5\n")


@pytest.fixture
def hierarchy(tmp_path):
    """From what /proc says of a process to the groups that are found."""

    def found(groups, mounts):
        proc = tmp_path / "proc"
        proc.mkdir()
        (proc / "cgroup").write_text(groups)
        (proc / "mountinfo").write_text("".join(f"31 23 0:28 {line}\n" for line in mounts))
        return memory_cgroups(proc)

    return found


def test_every_group_around_the_process_counts(tmp_path, hierarchy):
    root = tmp_path / "a folder"
    group(root / "user.slice" / "job" / "step", 2, "max", 3 * GIB)
    group(root / "user.slice" / "job", 2, 8 * GIB, 5 * GIB, cache_bytes=2 * GIB)
    group(root / "user.slice", 2, 64 * GIB, 30 * GIB, **{"memory.high": 32 * GIB})
    shown = str(root).replace(" ", "\\040")
    found = hierarchy("0::/user.slice/job/step\n", [f"/ {shown} rw,relatime shared:4 - cgroup2 cgroup2 rw"])
    assert [one.folder for one in found] == [
        root / p for p in ("user.slice/job/step", "user.slice/job", "user.slice", "")
    ]
    # The file cache is given up first. The group at the root has no files of limits.
    assert [one.limit_and_used_bytes() for one in found] == [None, (8 * GIB, 3 * GIB), (32 * GIB, 30 * GIB), None]


def test_version_1_in_a_container_that_sees_the_hosts_path(tmp_path, hierarchy):
    root = tmp_path / "memory"
    group(root, 1, 4 * GIB, GIB, cache_bytes=GIB // 2)
    group(root / "inner", 1, NO_LIMIT, GIB)
    mounts = [
        f"/docker/abc {tmp_path / 'cpu'} rw - cgroup cgroup rw,cpu",
        f"/docker/abc {root} ro - cgroup cgroup rw,memory",
        f"/ {tmp_path / 'unified'} rw - cgroup2 cgroup2 rw",
    ]
    groups = "5:cpu:/docker/abc\n4:memory:/docker/abc/inner\n0::/\n"
    found = hierarchy(groups, mounts)
    assert found == (Cgroup(root / "inner", 1), Cgroup(root, 1), Cgroup(tmp_path / "unified", 2))
    assert found[1].limit_and_used_bytes() == (4 * GIB, GIB // 2)
    assert found[2].limit_and_used_bytes() is None


@pytest.mark.parametrize("path", ["/somewhere/else", "/docker/abc/../../outside"])
def test_a_path_outside_of_what_is_mounted_leaves_the_mounted_group(tmp_path, hierarchy, path):
    root = tmp_path / "cgroup"
    group(root, 2, GIB, 0)
    assert hierarchy(f"0::{path}\n", [f"/docker/abc {root} ro - cgroup2 cgroup2 rw"]) == (Cgroup(root, 2),)


@pytest.mark.parametrize("groups", ["", "junk", "0::/\n"])
def test_without_groups_there_is_no_limit(hierarchy, groups):
    assert hierarchy(groups, []) == ()


def test_the_smallest_limit_counts(monkeypatch):
    monkeypatch.setattr(host_memory, "_cgroups", lambda: [(10 * GIB, 9 * GIB), (3 * GIB, 4 * GIB)])
    assert host_memory.available_bytes() == host_memory.spare_bytes() == 0
    assert host_memory.total_bytes() <= 3 * GIB
    monkeypatch.setattr(host_memory, "_cgroups", list)
    monkeypatch.setattr(host_memory, "_left_by_limits", lambda: [1000, 2000])
    assert host_memory.available_bytes() == 1000
    assert host_memory.host_available_bytes() > 1000


def in_a_shell(limits, code):
    done = subprocess.run(
        ["bash", "-c", f'{limits}; exec "$0" -c "$1"', sys.executable, code],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_users_limits_are_respected():
    code = """
import resource
from attnprof.measure.host_memory import available_bytes, limit_process
print(available_bytes())
limit_process(2**40)
print(*resource.getrlimit(resource.RLIMIT_DATA))
"""
    for limits in ("ulimit -S -v 1000000", "ulimit -S -d 1000000"):
        available, limit = in_a_shell(limits, code)
        assert 0.5 * 1000000 * 1024 < int(available) < 1000000 * 1024
        soft, hard = map(int, limit.split())
        assert soft == 1000000 * 1024 if "-d" in limits else soft > 2**40
        assert hard == -1


def test_a_case_beyond_the_users_limit_is_out_of_memory_and_a_limit_too_low_for_torch_is_told():
    code = """
from attnprof.cases.case import Case
from attnprof.cases.settings import Settings
from attnprof.cases.workload import Workload
from attnprof.errors import WorkerError
from attnprof.measure.runner import Runner
with Runner(Settings(device="cpu", memory_only=True)) as runner:
    try:
        for side in (8, 256):
            print(runner.measure(Case(Workload(1, 8, side, side), "naive")).outcome.value)
    except WorkerError as error:
        print(error)
"""
    assert in_a_shell("ulimit -v 12000000", code) == ["completed", "out_of_memory"]
    for option in ("-v", "-d"):
        [told] = in_a_shell(f"ulimit {option} 600000", code)
        assert told.startswith("the measuring process did not start: ")
        assert told.endswith(f"; ulimit {option} 586 MiB may be too little for torch: raise it")


def test_a_case_is_ended_before_the_machine_runs_out_of_memory(monkeypatch):
    with Runner(Settings(), command=(sys.executable, "-c", "import time; time.sleep(60)")) as runner:
        left = iter([100 * GIB, 50 * GIB, 10 * GIB, 3 * GIB])
        monkeypatch.setattr(host_memory, "host_available_bytes", lambda: next(left))
        process = runner._process = channel.WorkerProcess(runner._command, {})
        pid = process._popen.pid
        monkeypatch.setattr(runner, "_opened", lambda: process)
        left = iter([100 * GIB, 50 * GIB, 10 * GIB, 3 * GIB])
        result = runner.measure(case())
    assert result.outcome is Outcome.OUT_OF_MEMORY
    assert (
        result.reason
        == "ended before this machine ran out of memory: end other programs, or ask for less with --budget"
    )
    with pytest.raises(ProcessLookupError):
        host_memory.os.kill(pid, 0)
    assert next(left, None) is None
