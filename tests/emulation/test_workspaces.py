"""Workspaces and the blocks of backward in a program on an emulated card: their names, operations and lines."""

import json
import os
import subprocess
import sys
from textwrap import dedent

import pytest
import torch

from attnprof.emulation.toolkit import EmulationError, find_toolkit
from attnprof.emulation.watch.findings import BACKWARD
from attnprof.emulation.watch.forward_places import ForwardPlaces, forward_places
from attnprof.emulation.watch.journal import Workspace
from attnprof.emulation.watch.workspaces import Workspaces, match_workspaces

PROGRAM = """
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

torch.backends.cudnn.allow_tf32 = False
wide = nn.Conv2d(64, 64, 3, padding=1).cuda()
head = nn.Linear(64, 64).cuda()
x = torch.randn(8, 64, 128, 128, device="cuda", requires_grad=True)


def attend(h):
    return h.softmax(-1)


def part(h):
    return torch.exp(h)


def forward():
    h = wide(x)
    h = attend(h)
    h = checkpoint(part, h, use_reentrant=False)
    return head(h.mean((2, 3))).square().sum()


for _ in range(2):
    forward().backward()
    x.grad = wide.weight.grad = None
print(torch.cuda.max_memory_allocated())
"""


def call(action, address, size, time):
    return {"action": action, "addr": address, "size": size, "time_us": time, "frames": []}


def note(address, size, time, library="cuDNN"):
    return Workspace(address, size, time, library, "convolution")


def test_a_workspace_is_the_last_call_that_returned_its_address():
    calls = [
        call("alloc", 512, 100, 10),
        call("free_requested", 512, 100, 20),
        call("alloc", 512, 300, 30),
        call("alloc", 1024, 40, 31),
        call("free_requested", 512, 300, 33),
        call("alloc", 512, 300, 60),
    ]
    used = note(512, 300, 32)
    assert match_workspaces(calls, [used]) == Workspaces({2: used})
    # A library that keeps its workspace is told of it again.
    assert match_workspaces(calls, [used, note(512, 300, 32, "cuBLAS")]) == Workspaces({2: used})
    # The block is too small.
    assert match_workspaces(calls, [note(1024, 41, 40)]) == Workspaces()
    # The history begins later.
    first, other = note(512, 300, 4), note(2048, 1, 40)
    assert match_workspaces(calls, [first, other]) == Workspaces({}, {512: first, 2048: other})


def test_the_origin_of_a_node_is_read_from_its_traceback():
    lines = [
        "  Node ReluBackward0\n",
        '  File "/srv/train.py", line 3, in main\n',
        '  File "/usr/lib/site-packages/a/b.py", line 4, in forward\n',
    ]
    place, package = ("/srv/train.py", 3, "main"), ("/usr/lib/site-packages/a/b.py", 4, "forward")
    assert forward_places(lines) == ForwardPlaces("ReluBackward0", place, package)
    # Anomaly mode's own has the source below each line.
    assert forward_places(['  File "/srv/train.py", line 3, in main\n    fit()\n']) == ForwardPlaces("", place, None)
    assert forward_places(["something else"]) == ForwardPlaces()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Return the findings of a run of PROGRAM."""
    try:
        find_toolkit()
    except EmulationError as error:
        pytest.skip(str(error))
    return findings(tmp_path_factory.mktemp("program"), PROGRAM)


def findings(folder, program):
    """Run a program that prints its peak at its end, and return what is found of it."""
    (folder / "train.py").write_text(dedent(program))
    words = [sys.executable, "-m", "attnprof", "run", "--gpu", "t4", "--no-values", "--format", "json", "--"]
    done = subprocess.run([*words, sys.executable, "train.py"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [process] = json.loads(done.stdout)["processes"]
    assert process["notes"] == []
    assert process["peak_allocated_bytes"] == int(done.stderr.split()[-1])
    return process


def source(holder):
    return holder["line"] and holder["line"]["source"]


def test_workspaces_have_their_size_and_what_asked_for_them(found):
    holders = {one["workspace"]: one for one in found["peak"]["holders"] if one["workspace"]}
    products = [one for library, one in holders.items() if library != "cuDNN"]
    # _parseChosenWorkspaceSize, aten/src/ATen/cuda/CublasHandlePool.cpp: 4096 KiB + 128 KiB twice
    assert any(one["total_bytes"] == 8519680 for one in products)
    assert {one["operation"] for one in products} <= {"linear", "AddmmBackward0", ""}
    if any("takes no workspace" in line for line in found["assumed"] if "batch" not in line):
        pytest.skip("this cuDNN does not plan for a card that is not there")
    assert holders["cuDNN"]["blocks"] == 1
    assert holders["cuDNN"]["part"] == BACKWARD
    assert holders["cuDNN"]["total_bytes"] > 8 * 64 * 128 * 128 * 4  # more than the input, as it is at the peak
    assert holders["cuDNN"]["operation"].endswith("gradient of the weights")


def test_what_backward_of_backward_allocates_has_the_line_too(tmp_path):
    if not hasattr(torch._C._autograd, "_push_node_creation_hook"):
        pytest.skip(f"torch {torch.__version__} has no hook for new nodes")
    found = findings(
        tmp_path,
        """
        import torch
        x = torch.randn(1024, 1024, device="cuda", requires_grad=True)
        y = x.exp()
        [g] = torch.autograd.grad(y.sum(), x, create_graph=True)
        g.square().sum().backward()
        print(torch.cuda.max_memory_allocated())
        """,
    )
    backward = [one for one in found["peak"]["holders"] if one["part"] == BACKWARD]
    assert {source(one) for one in backward} >= {"y = x.exp()", "g.square().sum().backward()"}


def test_what_backward_allocates_has_the_line_of_forward(found):
    if not hasattr(torch._C._autograd, "_push_node_creation_hook"):
        pytest.skip(f"torch {torch.__version__} has no hook for new nodes")
    backward = [one for one in found["peak"]["holders"] if one["part"] == BACKWARD]
    assert {(source(one), one["operation"].partition(",")[0]) for one in backward} >= {
        ("h = wide(x)", "ConvolutionBackward0"),
        ("return h.softmax(-1)", "SoftmaxBackward0"),
        ("return head(h.mean((2, 3))).square().sum()", "AddmmBackward0"),
    }
    # Only a node that adds up the gradient of a leaf, here the input's, belongs to no line.
    assert all(source(one) or one["operation"] == "" for one in backward)


def test_a_models_peak_has_workspaces_beside_what_is_inside_operators(on_card):
    code = dedent("""
        import json, torch
        from torch import nn
        from attnprof.measure.worker.devices.select import open_device
        from attnprof.measure.worker.passes.step_peak import PeakFinder
        from attnprof.measure.worker.passes.workspaces import WorkspaceFinder
        device = open_device("cuda")
        model = nn.Sequential(
            nn.Conv2d(64, 64, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 64)
        ).to(device.name)
        x = torch.randn(8, 64, 128, 128, device=device.name)
        model(x).sum().backward()
        torch.cuda.reset_peak_memory_stats()
        finder, workspaces = PeakFinder(model, lambda: "backward", device.name), WorkspaceFinder(device)
        finder.own("parameters", model.parameters())
        finder.own("input", [x])
        with workspaces, finder:
            model(x).sum().backward()
        named = workspaces.named(finder.peak)
        print(json.dumps([finder.peak.held, named.held, torch.cuda.max_memory_allocated()]))
    """)
    environ = {**os.environ, **on_card("t4")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environ)
    assert done.returncode == 0, done.stderr
    held, named, allocated = json.loads(done.stdout)
    workspaces = {kind: size for kind, size in named.items() if kind.endswith(" workspace")}
    assert sum(named.values()) == sum(held.values()) == allocated
    assert named.get("inside operators", 0) + sum(workspaces.values()) == held["inside operators"]
    # A workspace of cuBLAS in forward and one in backward, which runs in a thread of its own.
    assert sum(size for kind, size in workspaces.items() if kind != "cuDNN workspace") == 2 * 8519680
    if "cuDNN workspace" in workspaces:  # an older cuDNN does not plan
        assert named.get("inside operators", 0) < 2**20 < workspaces["cuDNN workspace"]
