"""What PyTorch chooses by time on an emulated card: cuDNN's plans, and whatever a program times with events."""

import json
import os
import subprocess
import sys
import textwrap
from functools import cache

import pytest

from attnprof.cases.case import AS_IS, Case
from attnprof.cases.settings import Settings
from attnprof.cases.workload import ModelWorkload
from attnprof.measure.runner import Runner

CONVOLUTIONS = """
import ctypes, json, torch
torch.backends.cudnn.benchmark = benchmark
layers = [torch.nn.Conv2d(64, 128, 3, padding=1), torch.nn.ConvTranspose2d(128, 64, 4, 2, 1)]
net = torch.nn.Sequential(*layers).cuda()
peaks = []
for _ in range(3):
    torch.cuda.reset_peak_memory_stats()
    net(torch.randn(8, 64, 32, 32, device="cuda")).mean().backward()
    peaks.append(torch.cuda.max_memory_allocated())
driver = ctypes.CDLL("libcuda.so.1")
driver.attnprof_plan_trials.restype = ctypes.c_ulong
print(json.dumps([peaks, driver.attnprof_plan_trials()]))
"""


@pytest.fixture(scope="module")
def peaks_of(on_card):
    """Return the peaks of three steps of convolutions on a T4, and how often plans were compared."""

    @cache
    def peaks_of(order=None, benchmark=True):
        return run({**on_card("t4"), **({"ATTNPROF_CUDNN_PLANS": order} if order else {})}, CONVOLUTIONS, benchmark)

    return peaks_of


def run(environ, code, benchmark=False):
    command = [sys.executable, "-W", "ignore", "-c", f"benchmark = {benchmark}\n{textwrap.dedent(code)}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environ})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_plan_that_the_heuristics_name_first_wins(peaks_of):
    (trial, *later), trials = peaks_of()
    (_, *plain), never = peaks_of(benchmark=False)
    assert (later, never) == (plain, 0)
    assert trial > max(later)  # the plans are tried with the largest workspace of all
    assert trials == 5  # forward and the weight's gradient of two layers, and the gradient between them


def test_the_order_by_workspace_gives_the_ends_of_the_range(peaks_of):
    (_, *least), _ = peaks_of("least")
    (_, *first), _ = peaks_of()
    (_, *largest), _ = peaks_of("largest")
    assert max(least) <= max(first) <= max(largest)
    assert max(least) < max(largest)


TIMES = """
import ctypes, json, torch
x = torch.ones(4, device="cuda")
begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
times = []
for count in (0, 1, 100):
    begin.record()
    for _ in range(count):
        x += 1
    end.record()
    times.append(begin.elapsed_time(end))
print(json.dumps(times))
"""


def test_times_between_events_count_operations(on_card):
    times = run(on_card("t4"), TIMES)
    assert times == pytest.approx([0.01, 0.02, 1.01])
    assert times == run(on_card("t4"), TIMES)


def test_a_model_with_which_plans_are_tried_reserves_what_it_allocates(on_card, tmp_path):
    (tmp_path / "net.py").write_text("""
import torch
torch.backends.cudnn.benchmark = True
net = torch.nn.Conv2d(64, 64, 3, padding=1)
""")
    workload = ModelWorkload(16, 1, 1, 1, mode="forward", target=f"{tmp_path / 'net.py'}:net", inputs="64x64x64")
    settings = Settings(device="cuda", timeout_seconds=120, memory_only=True)
    with Runner(settings, environ=on_card("t4")) as runner:
        result = runner.measure(Case(workload, AS_IS))
    memory = result.measurement.memory
    assert memory is not None, result.reason
    assert memory.first_step_bytes > memory.step_bytes
    assert memory.peak_reserved_bytes >= memory.peak_allocated_bytes
    assert any("cuDNN" in note for note in result.measurement.notes)
