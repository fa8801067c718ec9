"""The library of values leaves work alone that would take the host long."""

import os
import subprocess
import sys

BACKWARD = """
import torch

def weights(channels, side):
    x = torch.ones(2, channels, side, side, device="cuda", dtype=torch.half)
    w = torch.ones(channels, channels, 1, 1, device="cuda", dtype=torch.half)
    rest = (None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [True, True, False])
    return torch.ops.aten.convolution_backward(x, x, w, *rest)[1].flatten()[0].item()

print(weights(4, 4), weights(64, 32))
"""


def test_a_convolution_is_computed_only_if_it_is_little_work(on_card):
    on_card("t4")
    command = [sys.executable, "-m", "attnprof.emulation", "t4", sys.executable, "-c", BACKWARD]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONWARNINGS": "ignore"}, capture_output=True, text=True, check=False
    )
    assert done.stdout == "32.0 0.0\n", done.stderr
