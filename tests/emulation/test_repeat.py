"""Two runs of a program, which must give the same report but for times and process numbers."""

import json
import os
import subprocess
import sys

PROGRAM = """
import threading, torch
from torch.utils.data import DataLoader, TensorDataset

torch.backends.cudnn.benchmark = True
net = torch.nn.Sequential(torch.nn.Conv2d(3, 32, 3), torch.nn.Flatten(), torch.nn.Linear(32 * 30 * 30, 10)).cuda()
optimizer = torch.optim.Adam(net.parameters())
images = TensorDataset(torch.randn(16, 3, 32, 32), torch.randint(0, 10, (16,)))

def train():
    for x, labels in DataLoader(images, batch_size=8, num_workers=2, shuffle=True, pin_memory=True):
        loss = torch.nn.functional.cross_entropy(net(x.cuda()), labels.cuda())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        noise = torch.randn(1000, device="cuda")
        end.record()
        print(loss.item(), begin.elapsed_time(end), noise.data_ptr())

thread = threading.Thread(target=train)
thread.start()
thread.join()
"""


def without_times(value):
    """Leave out what differs in every run: process numbers, and when a process began and ended."""
    if isinstance(value, list):
        return [without_times(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        name: without_times(each) for name, each in value.items() if name not in ("pid", "seconds", "started_seconds")
    }


def test_two_runs_give_the_same_report_and_output(on_card, tmp_path):
    on_card("t4")
    (tmp_path / "train.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "attnprof", "run", "--gpu", "t4", "--no-values", "--format", "json", "--"]
    environ = {**os.environ, "PYTHONWARNINGS": "ignore"}
    runs = [
        subprocess.run([*command, sys.executable, "train.py"], cwd=tmp_path, capture_output=True, text=True, check=True,
                       env=environ)
        for _ in range(2)
    ]  # fmt: skip
    first, second = (without_times(json.loads(done.stdout)) for done in runs)
    assert first == second
    assert first["processes"][0]["plan_trials"] > 0
    assert runs[0].stderr == runs[1].stderr
