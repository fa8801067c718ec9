"""The rows of workspaces in what a model's step holds, on made-up blocks."""

import dataclasses

import pytest
import torch

from attnprof.cases.measurement import StepPeak
from attnprof.emulation.watch.journal import Workspace
from attnprof.measure.worker.passes import workspaces
from attnprof.measure.worker.passes.workspaces import WorkspaceFinder

NOTE = Workspace(2, 300, 9, "cuDNN", "convolution")
PEAK = StepPeak("backward", "", "conv", 100_000, {"activations": 60_000, "inside operators": 40_000}, {})


def call(action, address, size):
    return {"action": action, "addr": address, "size": size, "time_us": 5}


class Device:
    """A device with one workspace."""

    def workspaces(self):
        return [NOTE]


@pytest.fixture
def finder(monkeypatch):
    """A finder that has seen a step: 60,928 bytes beside a workspace of 38,912."""
    calls = [call("alloc", 1, 60_928), call("alloc", 2, 38_912), call("free_requested", 2, 38_912)]
    kept = {"address": 1, "size": 60_928, "state": "active_allocated"}
    found = {"segments": [{"blocks": [kept]}], "device_traces": [calls]}
    monkeypatch.setattr(workspaces, "snapshot", lambda: found)
    monkeypatch.setattr(workspaces, "_record", lambda *_, **__: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    with WorkspaceFinder(Device()) as one:
        pass
    return one


def test_a_workspace_is_taken_out_of_the_rest(finder):
    assert finder.named(PEAK).held == {"activations": 60_000, "cuDNN workspace": 38_912, "inside operators": 1_088}


def test_a_result_that_is_made_after_the_peak_can_use_up_the_rest(finder):
    early = dataclasses.replace(PEAK, held={"activations": 61_500, "inside operators": 38_500})
    assert finder.named(early).held == {"activations": 61_500, "cuDNN workspace": 38_912}


def test_another_moment_stays_as_it_is(finder):
    higher = dataclasses.replace(PEAK, allocated_bytes=102_000)
    without = dataclasses.replace(PEAK, held={"activations": 100_000})
    assert [finder.named(one) for one in (higher, without, None)] == [higher, without, None]
