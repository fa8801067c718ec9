"""How far a strategy's output and gradients are from the plain block in float64.

The reference is written out here, apart from the attention library, and costs O(rows * N): on maps
too large for all rows, a fixed random subset of query rows is compared. The gradient of the output
is zero outside those rows, so that every parameter's gradient depends on them alone and is compared
whole.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnprof.record import Exactness

_ELEMENTS = 2**20  # of a rows x N float64 matrix over the batch: 8 MiB
_MIN_ROWS = 16


def compare(
    block: nn.Module, weights: Mapping[str, Tensor], x: Tensor, x_in: Tensor, *, train: bool, seed: int
) -> Exactness:
    """Run the block once and compare.

    Args:
        block: the strategy's module, in its own precision.
        weights: the workload's own parameters.
        x: the workload's own input (B, C, H, W).
        x_in: the same as the block takes it, in the strategy's dtype.
    """
    batch, _, height, width = x.shape
    positions = height * width
    rows = _query_rows(batch, positions, seed).to(x.device)
    reference = {name: weight.to(x.device, torch.float64).requires_grad_(train) for name, weight in weights.items()}
    x_reference = x.double().requires_grad_(train)
    with torch.set_grad_enabled(train):
        expected = _plain_rows(reference, x_reference, rows)  # (B, C, rows)
        x_in = x_in.detach().requires_grad_(train)
        block.zero_grad(set_to_none=True)
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
            [(parameters[name], weight.grad) for name, weight in reference.items() if name != "key_conv.bias"]
            + [(x_in.grad, x_reference.grad)]
        )
    return Exactness(difference, difference / scale if scale else 0.0, grad_error, len(rows))


def _query_rows(batch: int, positions: int, seed: int) -> Tensor:
    count = max(_MIN_ROWS, _ELEMENTS // (batch * positions))
    if count >= positions:
        return torch.arange(positions)
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(positions, generator=generator)[:count].sort().values


def _plain_rows(weights: Mapping[str, Tensor], x: Tensor, rows: Tensor) -> Tensor:
    """The block's output at some positions: (B, C, H, W) -> (B, C, rows)."""
    flat = x.flatten(2)  # (B, C, N)
    query, key, value = (
        weights[f"{name}_conv.weight"].flatten(1) @ positions + weights[f"{name}_conv.bias"].unsqueeze(1)
        for name, positions in (("query", flat[:, :, rows]), ("key", flat), ("value", flat))
    )
    attention = F.softmax(query.transpose(1, 2) @ key, dim=-1)  # (B, rows, N)
    return weights["gamma"] * (value @ attention.transpose(1, 2)) + flat[:, :, rows]


def _worst(pairs: list[tuple[Tensor | None, Tensor | None]]) -> float:
    errors = []
    for found, expected in pairs:
        assert found is not None and expected is not None
        scale = expected.abs().max().item()
        difference = (found.double() - expected).abs().max().item()
        errors.append(difference / scale if scale else difference)
    # max() alone would lose a NaN.
    return max(errors) if all(map(math.isfinite, errors)) else math.inf
