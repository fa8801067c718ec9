"""Whether two ways of computing a block are one function: outputs, gradients and what they leave behind."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attnprof.patching.rehearsal import Rehearsal, RunResult

# Of rounding alone the errors are some units of the dtype's last place, times what a softmax of scores of a few units
# makes of them; a block that means something else is off by tenths of its attention term.
_TOLERANCES = {torch.float64: 1e-8, torch.float32: 1e-4, torch.float16: 3e-2, torch.bfloat16: 2e-1}
# cuDNN's convolutions round float32 to TF32's 10 bits by default (torch.backends.cudnn.allow_tf32); the strategies'
# matrix products do not.
_TF32_TOLERANCE = 5e-3
# A gradient that is zero by its formula, such as a query bias's under a softmax that shifts all scores of a row alike,
# is rounding noise; it is measured against the others.
_SMALLEST_SHARE = 0.1


@dataclass(frozen=True)
class Difference:
    """Between two runs, relative.

    Attributes:
        error: of the outputs and, where both have one, the attention maps.
        grad_error: of the gradients.
        state_error: of the buffers and of the input.
    """

    error: float
    grad_error: float
    state_error: float

    def __or__(self, other: Difference) -> Difference:
        """The larger of each."""
        return Difference(*(max(a, b) for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    def refusal(self, tolerance: float) -> str:
        """What is wrong, in words; "" for nothing."""
        for value, what in (
            (self.error, "its output differs"),
            (self.grad_error, "its gradients differ"),
            (self.state_error, "its buffers (batch norm's, spectral norm's) would not move as they do now"),
        ):
            if not value <= tolerance:
                return f"{what}: relative error {value:.0e}, {tolerance:.0e} allowed"
        return ""


def tolerance_for(x: Tensor) -> float:
    """How far rounding alone may take two forms of a block apart, in the dtype and on the device of x."""
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
    """The largest, over the block's modes: as it is, in training and in evaluation.

    Args:
        parts_of: output and attention map of what either returns.
    """
    found = Difference(0.0, 0.0, 0.0)
    for training in _modes(rehearsal):
        expected, other = (
            rehearsal.run(forward, x, training=training, output_of=lambda result: parts_of(result)[0])
            for forward in (reference, candidate)
        )
        found |= _between(expected, other, x, parts_of)
    return found


def attention_scale(out: Tensor, x: Tensor) -> float:
    """Against what an error of the output counts: the attention term, or all of it where x is not added."""
    return min(_largest(out), _largest(out - x))


def relative(found: Tensor, expected: Tensor, scale: float) -> float:
    """Largest difference over the scale; infinite where a value is not a number, or where shapes differ."""
    if found.shape != expected.shape or not scale > 0:
        return float("inf")
    error = _largest(found.double() - expected.double()) / scale
    return float("inf") if math.isnan(error) else error


def _between(
    expected: RunResult, found: RunResult, x: Tensor, parts_of: Callable[[Any], tuple[Tensor, Tensor | None]]
) -> Difference:
    (out, attention), (other_out, other_attention) = parts_of(expected.result), parts_of(found.result)
    error = relative(other_out, out, attention_scale(out, x))
    if attention is not None and other_attention is not None:
        error = max(error, relative(other_attention, attention, _largest(attention)))
    smallest = _SMALLEST_SHARE * max((_largest(g) for g in expected.gradients.values()), default=0.0)
    return Difference(
        error,
        _of_all(expected.gradients, found.gradients, smallest),
        _of_all(expected.state, found.state, torch.finfo(torch.float32).tiny),
    )


def _of_all(expected: dict[str, Tensor], found: dict[str, Tensor], smallest: float) -> float:
    if expected.keys() != found.keys():
        return float("inf")
    worst = 0.0
    for name, value in expected.items():
        worst = max(worst, relative(found[name], value, max(_largest(value), smallest)))
    return worst


def _modes(rehearsal: Rehearsal) -> Iterator[bool | None]:
    flags = {module.training for module in rehearsal.block.modules()}
    # Some frozen, as batch norm often is: a mode of its own.
    yield from (None, True, False) if len(flags) > 1 else (True, False)


def _largest(values: Tensor) -> float:
    return values.detach().abs().max().item() if values.numel() else 0.0
