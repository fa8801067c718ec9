"""The peak finder against torch's own tracker of memory, which counts tensors as well."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.distributed._tools.mem_tracker import MemTracker

from attnprof.measure.worker.passes.step_peak import PeakFinder


def network():
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1))
    return nn.Sequential(body, nn.Flatten(), nn.Linear(16 * 12 * 10, 10))


def step(model, optimizer, x):
    optimizer.zero_grad()
    model(x).sum().backward()
    optimizer.step()


@pytest.mark.parametrize("make", [partial(torch.optim.SGD, lr=1e-3), torch.optim.Adam])
def test_the_peak_is_that_of_torchs_tracker(make):
    model = network()
    optimizer, x = make(model.parameters()), torch.randn(4, 3, 12, 10)
    step(model, optimizer, x)  # makes the optimizer's state
    tracker = MemTracker()
    tracker.track_external(model, optimizer, x)
    with tracker:
        step(model, optimizer, x)
    theirs = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"]

    finder = PeakFinder(model, lambda: "forward", "cpu")
    finder.own("parameters", model.parameters())
    finder.own("input", [x])
    finder.own("gradients", (parameter.grad for parameter in model.parameters()))
    states = [value for state in optimizer.state.values() for value in state.values()]
    finder.own("optimizer state", [value for value in states if isinstance(value, torch.Tensor)])
    with finder:
        step(model, optimizer, x)
    assert finder.peak.allocated_bytes == theirs
    assert sum(finder.peak.held.values()) == theirs
