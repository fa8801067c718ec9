"""The errors of a strategy's output and gradients against the plain block in float64.

The reference (`definitions`) is written apart from the attention library, and costs O(rows * N): on maps
too large for all rows, a fixed random subset of query rows is compared. The gradient of the output
is zero outside those rows, so that every parameter's gradient depends on them alone and is compared
whole.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from attnprof.cases.measurement import Exactness
from attnprof.measure.worker.passes.definitions import Definition

_ELEMENTS = 2**20  # of a rows x N float64 matrix over the batch: 8 MiB
_MIN_ROWS = 16


def compare(
    block: nn.Module,
    definition: Definition,
    weights: Mapping[str, Tensor],
    x: Tensor,
    x_in: Tensor,
    *,
    train: bool,
    seed: int,
) -> Exactness:
    """Run the block once, in evaluation mode, and compare it with its definition.

    Args:
        block: the strategy's module, in its own precision.
        definition: the function that it is to compute.
        weights: the workload's own parameters. Buffers are the block's, as its steps left them.
        x: the workload's own input (B, C, H, W).
        x_in: the same input in the strategy's dtype, as the block takes it.
        train: whether gradients are compared too.
        seed: random seed for the rows and for the gradient of the output.
    """
    batch, _, height, width = x.shape
    positions = height * width
    rows = _query_rows(batch, positions, seed).to(x.device)
    reference = {name: weight.to(x.device, torch.float64).requires_grad_(train) for name, weight in weights.items()}
    x_reference = x.double().requires_grad_(train)
    with torch.set_grad_enabled(train):
        buffers = {name: buffer.to(torch.float64) for name, buffer in block.named_buffers()}
        expected = definition.rows({**reference, **buffers}, x_reference, rows)  # (B, C, rows)
        x_in = x_in.detach().requires_grad_(train)
        block.eval().zero_grad(set_to_none=True)
        out = block(x_in)
        found = out.flatten(2)[:, :, rows]
    difference = (found.detach().double() - expected.detach()).abs().max().item()
    scale = expected.detach().abs().max().item()
    grad_error = None
    if train:
        generator = torch.Generator(x.device).manual_seed(seed)
        slope = torch.randn(expected.shape, generator=generator, device=x.device, dtype=torch.float64)
        torch.autograd.backward(expected, slope)
        torch.autograd.backward(found, slope.to(found.dtype))
        parameters = {name: parameter.grad for name, parameter in block.named_parameters()}
        grad_error = _worst(
            [(parameters[name], weight.grad) for name, weight in reference.items() if name != definition.key_bias]
            + [(x_in.grad, x_reference.grad)]
        )
    return Exactness(difference, difference / scale if scale else 0.0, grad_error, len(rows))


def _query_rows(batch: int, positions: int, seed: int) -> Tensor:
    count = max(_MIN_ROWS, _ELEMENTS // (batch * positions))
    if count >= positions:
        return torch.arange(positions)
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(positions, generator=generator)[:count].sort().values


def _worst(pairs: list[tuple[Tensor | None, Tensor | None]]) -> float:
    errors = []
    for found, expected in pairs:
        assert found is not None and expected is not None
        scale = expected.abs().max().item()
        difference = (found.double() - expected).abs().max().item()
        errors.append(difference / scale if scale else difference)
    # max() alone would lose a NaN.
    return max(errors) if all(map(math.isfinite, errors)) else math.inf
