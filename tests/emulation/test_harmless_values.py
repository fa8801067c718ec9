"""What the emulated card makes up must not end a program that ran well on a real one."""

import os
import subprocess
import sys

import pytest

ASKS = """
import math
import torch

x = torch.randn(3, 1000, 1000, device="cuda")  # too large to have values
error = torch.nn.functional.mse_loss(x, 2 * x).item()
print("ratio", 10 * math.log10(1 / error))
print("mean", 1 / (x - 2 * x).square().mean().item(), "deviation", 1 / x.std().item())
small = x[:, 0, :9] * 2
print("small", 1 / small.square().sum().item(), "in half", 1 / small.half().abs().mean().item())
print("known", torch.zeros(5, device="cuda").mean().item(), torch.zeros(3000, 1000, device="cuda").mean().item())
print("counted", int((x > 7).sum()))
difference = (x - 2 * x).norm()
print("difference", bool(difference < 1e-3), bool((x - x).abs().max() < 1e-3))
"""


@pytest.fixture(scope="module")
def answers(on_card, tmp_path_factory):
    """Return what a program prints that divides by what it reads, by the first word of the line."""
    on_card("t4")
    file = tmp_path_factory.mktemp("program") / "asks.py"
    file.write_text(ASKS)
    command = [sys.executable, "-m", "attnprof.emulation", "t4", sys.executable, str(file)]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONWARNINGS": "ignore"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}


def test_made_up_losses_and_totals_can_be_divided_by(answers):
    assert float(answers["ratio"][0]) == 0
    assert list(map(float, answers["mean"][::2])) == list(map(float, answers["small"][::3])) == [1, 1]


def test_zeros_that_are_true_stay(answers):
    assert answers["known"] == ["0.0", "0.0"]


def test_counts_stay_empty_and_differences_small(answers):
    assert answers["counted"] == ["0"]
    assert answers["difference"] == ["True", "True"]
