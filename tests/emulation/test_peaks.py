"""The peaks that the watcher keeps: of the whole program, and of its steps without trials of cuDNN's plans."""

import json
import os
import subprocess
import sys

import pytest

from attnprof.emulation.watch.notes import Notes
from attnprof.emulation.watch.peaks import Peaks

MIB = 2**20
CONVOLUTIONS = """
import torch
torch.backends.cudnn.benchmark = True
net = torch.nn.Conv2d(64, 128, 3, padding=1).cuda()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

def train():
    for _ in range(2):
        net(torch.randn(8, 64, 32, 32, device="cuda")).mean().backward()
        optimizer.step()

train()
print("own figures", torch.cuda.max_memory_allocated(), torch.accelerator.max_memory_allocated())
torch.cuda.reset_peak_memory_stats()
train()
print("own figures", torch.cuda.max_memory_allocated())
"""


@pytest.fixture(scope="module")
def trained(on_card, tmp_path_factory):
    """Return the findings of a program with trials, and the figures that it printed itself."""
    on_card("t4")
    folder = tmp_path_factory.mktemp("program")
    (folder / "train.py").write_text(CONVOLUTIONS)
    command = [sys.executable, "-m", "attnprof", "run", "--gpu", "t4", "--format", "json", "--", sys.executable]
    done = subprocess.run([*command, "train.py"], cwd=folder, capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONWARNINGS": "ignore"})  # fmt: skip
    assert done.returncode == 0, done.stderr
    [found] = json.loads(done.stdout)["processes"]
    lines = [line for line in done.stderr.splitlines() if line.startswith("own figures")]
    return found, [list(map(int, line.split()[2:])) for line in lines]


def test_the_step_of_the_trials_is_told_apart(trained):
    found, (own, after_a_reset) = trained
    assert (found["plan_trials"], found["peak_step"], found["steps"], found["notes"]) == (2, 1, 4, [])
    assert found["peak_without_trials_bytes"] == after_a_reset[0] < found["peak_allocated_bytes"] == own[0]


def test_the_program_does_not_see_that_its_peaks_were_reset(trained):
    found, (own, _) = trained
    assert own == [found["peak_allocated_bytes"]] * 2


class Allocator:
    """Statistics of an allocator in the form of torch._C's, with peaks that can be reset."""

    def __init__(self):
        self.current = self.peak = 0

    def allocate(self, count):
        self.current += count
        self.peak = max(self.peak, self.current)

    def read(self, device):
        bytes_ = {"all": {"current": self.current, "peak": self.peak}}
        return {"allocated_bytes": bytes_, "reserved_bytes": {"all": {"peak": 2 * self.peak}}, "num_ooms": 0}

    def reset(self, device):
        self.peak = self.current


@pytest.fixture
def followed(monkeypatch):
    """Peaks of such an allocator, what the program calls, and a list of trials."""
    import torch

    allocator, trials, notes = Allocator(), [], Notes()
    for name in ("_cuda_memoryStats", "_accelerator_getDeviceStats"):
        monkeypatch.setattr(torch._C, name, allocator.read, raising=False)
    for name in ("_cuda_resetPeakMemoryStats", "_accelerator_resetPeakStats"):
        monkeypatch.setattr(torch._C, name, allocator.reset, raising=False)
    peaks = Peaks(0, lambda: 9, lambda: len(trials), notes)
    peaks.follow()
    yield peaks, allocator, torch._C, trials
    assert notes.lines() == ()


def test_steps_before_and_after_a_trial_count_as_steps_without(followed):
    peaks, allocator, _, trials = followed
    allocator.allocate(10)
    peaks.end_step(1)
    trials.append("a convolution")
    allocator.allocate(90)
    allocator.allocate(-80)
    peaks.end_step(2)
    allocator.allocate(5)
    peaks.end_step(3)
    assert (peaks.allocated_bytes, peaks.reserved_bytes, peaks.step) == (100, 200, 2)
    assert peaks.without_trials_bytes == 25


def test_a_program_without_such_a_step_has_no_peak_of_it(followed):
    peaks, allocator, _, trials = followed
    trials.append("a convolution")
    allocator.allocate(10)
    peaks.measure(1)
    assert (peaks.allocated_bytes, peaks.without_trials_bytes) == (10, None)


@pytest.mark.parametrize("reset", ["_cuda_resetPeakMemoryStats", "_accelerator_resetPeakStats"])
def test_the_program_sees_a_peak_until_it_resets_it(followed, reset):
    peaks, allocator, functions, trials = followed
    trials.append("a convolution")
    allocator.allocate(100)
    allocator.allocate(-90)
    peaks.end_step(1)
    assert allocator.peak == 10
    assert functions._cuda_memoryStats(0)["allocated_bytes"]["all"] == {"current": 10, "peak": 100}
    getattr(functions, reset)(0)
    assert functions._cuda_memoryStats(0)["allocated_bytes"]["all"] == {"current": 10, "peak": 10}
    assert peaks.allocated_bytes == 100


def test_the_range_over_the_plans_is_that_of_further_runs(on_card, tmp_path):
    on_card("t4")
    (tmp_path / "train.py").write_text(CONVOLUTIONS + "open('runs', 'a').write('once ')\n")
    command = [sys.executable, "-m", "attnprof", "run", "--gpu", "t4", "--plans", "range", "--format", "json", "--"]
    done = subprocess.run([*command, sys.executable, "train.py"], cwd=tmp_path, capture_output=True, text=True,
                          check=False, env={**os.environ, "PYTHONWARNINGS": "ignore"})  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    least, largest = report["plan_range"]
    assert [report["plans"], least["plans"], largest["plans"]] == ["first", "least", "largest"]
    peaks = [one["processes"][0]["peak_without_trials_bytes"] for one in (least, report, largest)]
    assert peaks == sorted(peaks)
    assert peaks[0] < peaks[2]
    assert (tmp_path / "runs").read_text().split() == ["once"] * 3
    assert done.stderr.count("own figures") == 2  # the further runs say nothing
