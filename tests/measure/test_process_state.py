"""What a model may change in the process that measures: settings are put back, and the rest is noticed."""

import json
import os
import resource
import signal
import sys
import threading

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from attnprof.measure.worker.process_state import ProcessState


def train(steps=2):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4))
    x = torch.randn(2, 3, 8, 8)
    model(x)
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(steps):
        with torch.autocast("cpu"):
            loss = checkpoint(model, x, use_reentrant=False).sum()
        loss.backward()
        optimizer.step()


def test_training_changes_nothing_that_later_cases_rely_on():
    before = ProcessState()
    train()
    assert before.put_back() == ""


def _read():
    return (
        os.getcwd(),  # noqa: PTH109
        dict(os.environ),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.benchmark,
        sys.stdout,
        sys.excepthook,
        signal.getsignal(signal.SIGUSR1),
        resource.getrlimit(resource.RLIMIT_NOFILE),
    )


def test_settings_are_put_back(tmp_path):
    before, read = ProcessState(), _read()
    os.chdir(tmp_path)
    os.environ["PATH"] = "/"
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":16:8"
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    torch.set_float32_matmul_precision("medium")
    torch.backends.cudnn.benchmark = True
    sys.stdout = sys.__stderr__
    sys.excepthook = print
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_NOFILE, (16, read[-1][1]))
    assert before.put_back() == ""
    assert _read() == read


CHANGES = {
    "module json": lambda patch: patch.setattr(json, "dumps", None),
    "module torch": lambda patch: patch.delattr(torch, "relu"),
    "class Function": lambda patch: patch.setattr(torch.autograd.Function, "apply", print),
    "module torch.random": lambda patch: patch.setattr(torch.random, "seed", print),
    "module os": lambda patch: patch.setattr(os, "fsync", print),
    "builtins": lambda patch: patch.setattr("builtins.open", print),
    "class Tensor": lambda patch: patch.setattr(torch.Tensor, "view", None),
    "class nn.Conv2d": lambda patch: patch.setattr(nn.Conv2d, "forward", print),
    "module colorsys": lambda patch: patch.delitem(sys.modules, "colorsys"),
}


@pytest.mark.parametrize("part", CHANGES)
def test_what_cannot_be_put_back_is_named(part, monkeypatch):
    import colorsys  # noqa: F401 - a module that nothing else needs

    before = ProcessState()
    with monkeypatch.context() as patch:
        CHANGES[part](patch)
        found = before.put_back()
    assert found == part


def test_a_thread_that_stays_is_named():
    before, end = ProcessState(), threading.Event()
    threading.Thread(target=end.wait, daemon=True).start()
    found = before.put_back()
    end.set()
    assert found == "number of threads"
