"""Comparing two ways of computing a block: outputs, gradients, and the state that they leave behind."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attnprof.patching.rehearsal import Rehearsal, RunResult

# Rounding alone causes errors of some units in the dtype's last place, times the factor by which a softmax of scores of
# a few units amplifies them. A block that computes something else is off by tenths of its attention term.
_TOLERANCES = {torch.float64: 1e-8, torch.float32: 1e-4, torch.float16: 3e-2, torch.bfloat16: 2e-1}
# cuDNN's convolutions round float32 to the 10 bits of TF32 by default (torch.backends.cudnn.allow_tf32); the matrix
# products of the strategies do not.
_TF32_TOLERANCE = 5e-3
# A gradient that is zero by its formula is rounding noise (the key bias's is: it shifts all scores of a row alike, and
# the softmax ignores that). Such a gradient is compared with this share of the largest one.
_SMALLEST_SHARE = 0.1


@dataclass(frozen=True)
class Difference:
    """The relative differences between two runs of a block.

    Attributes:
        error: between the outputs and, if both runs have one, the attention maps.
        grad_error: between the gradients.
        state_error: between the buffers, and between the inputs after the run.
    """

    error: float
    grad_error: float
    state_error: float

    def __or__(self, other: Difference) -> Difference:
        """Return the larger of each error."""
        return Difference(*(max(a, b) for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    def refusal(self, tolerance: float) -> str:
        """Return which error exceeds the tolerance, in words; "" if none does."""
        for value, what in (
            (self.error, "its output differs"),
            (self.grad_error, "its gradients differ"),
            (self.state_error, "its buffers (of batch norm or spectral norm) would not change as they do now"),
        ):
            if not value <= tolerance:
                return f"{what}: relative error {value:.0e}, up to {tolerance:.0e} allowed"
        return ""


def tolerance_for(x: Tensor) -> float:
    """Return the relative error that rounding alone may cause, in the dtype and on the device of x."""
    if x.dtype == torch.float32 and x.device.type != "cpu":
        return _TF32_TOLERANCE
    return _TOLERANCES[x.dtype]


def difference(
    rehearsal: Rehearsal,
    x: Tensor,
    reference: Callable[[Tensor], Any],
    candidate: Callable[[Tensor], Any],
    parts_of: Callable[[Any], tuple[Tensor, Tensor | None]],
) -> Difference:
    """Compare two forwards of a block in each of its modes: as it is, in training and in evaluation.

    Args:
        rehearsal: the block, entered.
        x: the map, (B, C, H, W).
        reference: the forward that counts as right.
        candidate: the forward to compare with it.
        parts_of: finds the output and the attention map in what either returns.

    Returns:
        The largest difference over the modes.
    """
    found = Difference(0.0, 0.0, 0.0)
    for training in _modes(rehearsal):
        expected, other = (
            rehearsal.run(forward, x, training=training, output_of=lambda result: parts_of(result)[0])
            for forward in (reference, candidate)
        )
        found |= _compare_runs(expected, other, x, parts_of)
    return found


def attention_scale(out: Tensor, x: Tensor) -> float:
    """Return what an output's error is relative to: its attention term, or all of it if x is not added."""
    return min(_largest(out), _largest(out - x))


def relative(found: Tensor, expected: Tensor, scale: float) -> float:
    """Return the largest difference between two tensors, relative to a scale.

    Args:
        found: the tensor to check.
        expected: the tensor that counts as right.
        scale: the size that counts as an error of 1.

    Returns:
        The relative error; infinite if a value is not a number or the shapes differ.
    """
    if found.shape != expected.shape or not scale > 0:
        return float("inf")
    error = _largest(found.double() - expected.double()) / scale
    return float("inf") if math.isnan(error) else error


def _compare_runs(
    expected: RunResult, found: RunResult, x: Tensor, parts_of: Callable[[Any], tuple[Tensor, Tensor | None]]
) -> Difference:
    (out, attention), (other_out, other_attention) = parts_of(expected.result), parts_of(found.result)
    error = relative(other_out, out, attention_scale(out, x))
    if attention is not None and other_attention is not None:
        error = max(error, relative(other_attention, attention, _largest(attention)))
    smallest = _SMALLEST_SHARE * max((_largest(g) for g in expected.gradients.values()), default=0.0)
    return Difference(
        error,
        _largest_error(expected.gradients, found.gradients, smallest),
        _largest_error(expected.state, found.state, torch.finfo(torch.float32).tiny),
    )


def _largest_error(expected: dict[str, Tensor], found: dict[str, Tensor], smallest: float) -> float:
    if expected.keys() != found.keys():
        return float("inf")
    worst = 0.0
    for name, value in expected.items():
        worst = max(worst, relative(found[name], value, max(_largest(value), smallest)))
    return worst


def _modes(rehearsal: Rehearsal) -> Iterator[bool | None]:
    flags = {module.training for module in rehearsal.block.modules()}
    # If only some modules are in training mode (a frozen batch norm, often), that is a third mode.
    yield from (None, True, False) if len(flags) > 1 else (True, False)


def _largest(values: Tensor) -> float:
    return values.detach().abs().max().item() if values.numel() else 0.0
