"""Exact attention tile by tile: the N x M weights never exist, neither in forward nor in training.

Both strategies are one algorithm. Forward takes the softmax of a tile's scores. If a tile does not have all keys, the
partial results are merged by each row's log-sum-exp (online softmax: Milakov and Gimelshein 2018, arXiv:1805.02867;
FlashAttention, Dao et al. 2022, arXiv:2205.14135). Backward recomputes each tile's weights P from its scores S and
keeps nothing of size N x M:

    dV = P^T dO                 D  = rowsum(P * dP) = rowsum(dO * O)
    dP = dO V^T                 dS = P * (dP - D)
    dQ = dS K                   dK = dS^T Q

Input-sized tensors ("maps") are also kept to a minimum:

- V = X W^T + b is linear and each row of P sums to 1, so P V = (P X) W^T + b. The input itself is attended to, and the
  result is projected.
- dO = gamma * dy. All of the above is computed with dy, and gamma scales the results.
- If tiles have whole rows, D is a sum over the tile, and O need not be kept for it.
- dV turns into dX in place, piece by piece.

At its peak, a training step of `chunked` holds the input, the output and their gradients. Projections and tiles add a
few quarters of such a map.
"""

# Registered in strategy.COMPONENTS as "tiled:chunked" and "tiled:online".

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from attnprof.attention.differentiable_once import differentiable_once
from attnprof.attention.projections import Projections, project_columns
from attnprof.attention.strategies.tile_loops import attend, backward_by_keys, backward_by_rows
from attnprof.attention.tiles import Tile, exact_dtype, pieces, row_tile, tall_tile


def chunked(p: Projections, queries: int | None = None) -> tuple[Tensor, None]:
    """Attend with chunks of query rows against all keys: a tile has queries x M scores.

    Args:
        p: the block's projections of its input.
        queries: the rows of a chunk; None chooses them for the device.

    Returns:
        The block's output (B, C, H, W), and None: there is no attention map.
    """
    return _block(p, lambda query, key: row_tile(query, key, queries)), None


def online(p: Projections, queries: int | None = None, keys: int | None = None) -> tuple[Tensor, None]:
    """Attend with tiles of queries x keys scores: the memory of a tile does not depend on N.

    Args:
        p: the block's projections of its input.
        queries: the rows of a tile.
        keys: the columns of a tile. If one of the two is None, both are chosen for the device.

    Returns:
        The block's output (B, C, H, W), and None: there is no attention map.
    """
    sizes = (queries, keys) if queries and keys else None
    return _block(p, lambda query, key: tall_tile(query, key, sizes)), None


def _block(p: Projections, tile_for: Callable[[Tensor, Tensor], Tile]) -> Tensor:
    matrices = p.matrices()
    skip = (p.x, p.parts.gamma) if p.ends_plainly else (None, None)
    inputs = (*skip, *(matrices or (p.query(), p.key(), p.value())))
    # Decided here because gradients are off inside an autograd function, while under no_grad parameters still require
    # them.
    training = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs)
    device = p.x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else p.x.dtype
    # Inside, each product runs in the dtype of its operands and the softmax in float32. Autocast would only add casts
    # of whole tiles.
    with torch.autocast(device, enabled=False):
        if matrices:
            return _TiledBlock.apply(*inputs, dtype, tile_for, training)  # type: ignore[no-untyped-call,no-any-return]
        out: Tensor = _TiledAttention.apply(*inputs, tile_for, training)  # type: ignore[no-untyped-call]
    return out if p.ends_plainly else p.residual(out)


class _TiledAttention(torch.autograd.Function):
    """The attended values (B, D, N) of query (B, E, N), key (B, E, M) and value (B, D, M).

    If x (B, C, H, W) and gamma are given too, D = C and the result is the block's output gamma * attended + x.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor | None,
        gamma: Tensor | None,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        tile_for: Callable[[Tensor, Tensor], Tile],
        training: bool,
    ) -> Tensor:
        ctx.tile = tile_for(query, key)
        keeps = training and ctx.tile.keys < key.shape[2]
        out, lse = attend(query, key, value, ctx.tile, needs_lse=keeps)
        ctx.save_for_backward(gamma, query, key, value, out if keeps else None, lse)
        return out if x is None or gamma is None else _residual(x, gamma, out, keeps)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gamma, query, key, value, out, lse = ctx.saved_tensors
        with torch.autocast(grad.device.type, enabled=False):
            slope = grad.flatten(2).to(value.dtype)
            if out is None:
                *grads, dot = backward_by_rows(slope, query, key, value, ctx.tile)
            else:
                *grads, dot = backward_by_keys(slope, query, key, value, out, lse, ctx.tile)
            if gamma is None:
                return None, None, *(unscaled.to(value.dtype) for unscaled in grads), None, None
            scaled = [unscaled.mul_(gamma).to(value.dtype) for unscaled in grads]
        return grad, dot.to(gamma.dtype).view(gamma.shape), *scaled, None, None


class _TiledBlock(torch.autograd.Function):
    """The block's output from weights (C', C) and biases (C',) of query, key and value, computed in `dtype`."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        gamma: Tensor,
        query_weight: Tensor,
        query_bias: Tensor,
        key_weight: Tensor,
        key_bias: Tensor,
        weight: Tensor,
        bias: Tensor,
        dtype: torch.dtype,
        tile_for: Callable[[Tensor, Tensor], Tile],
        training: bool,
    ) -> Tensor:
        flat = x.flatten(2).to(dtype)  # (B, C, N)
        query, key = _project(flat, query_weight, query_bias), _project(flat, key_weight, key_bias)
        ctx.tile, ctx.dtype = tile_for(query, key), dtype
        keeps = training and ctx.tile.keys < key.shape[2]
        out, lse = attend(query, key, flat, ctx.tile, needs_lse=keeps)
        weight_, bias_ = weight.to(dtype), bias.to(dtype).unsqueeze(1)
        for image in out:
            for columns in pieces(image):
                image[:, columns] = torch.addmm(bias_, weight_, image[:, columns])
        matrices = (query_weight, query_bias, key_weight, key_bias, weight, bias)
        ctx.save_for_backward(x, gamma, *matrices, out if keeps else None, lse)
        return _residual(x, gamma, out, keeps)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, gamma, query_weight, query_bias, key_weight, key_bias, weight, bias, out, lse = ctx.saved_tensors
        with torch.autocast(grad.device.type, enabled=False):
            flat, slope = x.flatten(2).to(ctx.dtype), grad.flatten(2).to(ctx.dtype)
            query, key = _project(flat, query_weight, query_bias), _project(flat, key_weight, key_bias)
            matrix = (weight.to(ctx.dtype), bias.to(ctx.dtype))
            if out is None:
                *grads, dot = backward_by_rows(slope, query, key, flat, ctx.tile, matrix)
            else:
                *grads, dot = backward_by_keys(slope, query, key, flat, out, lse, ctx.tile, matrix)
            del query, key
            weights = (query_weight, key_weight, weight)
            grad_x, grad_weights, grad_biases = _input_gradient(grad, gamma, flat, weights, grads)
        interleaved = (
            unscaled.mul_(gamma).to(parameter.dtype)
            for pair in zip(grad_weights, grad_biases, strict=True)
            for unscaled, parameter in zip(pair, (weight, bias), strict=True)
        )
        return grad_x, dot.to(gamma.dtype).view(gamma.shape), *interleaved, None, None, None


def _project(flat: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Project in the dtype of `flat`, (B, C, N) -> (B, C', N)."""
    return project_columns(flat, weight.to(flat.dtype), bias.to(flat.dtype))


def _residual(x: Tensor, gamma: Tensor, out: Tensor, keeps: bool) -> Tensor:
    """Return gamma * out + x, computed in place of `out` (B, C, N) unless that is kept."""
    if not keeps and x.is_contiguous() and x.dtype == out.dtype == gamma.dtype:
        return out.mul_(gamma).view(x.shape).add_(x)
    return torch.addcmul(x, gamma, out.view(x.shape))


def _input_gradient(
    grad: Tensor, gamma: Tensor, flat: Tensor, weights: tuple[Tensor, ...], grads: list[Tensor]
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Return the gradients of the input, of the weights and of the biases; the last two still without gamma.

    Args:
        grad: the gradient of the block's output, (B, C, H, W).
        gamma: the block's, of one element.
        flat: the input, (B, C, N), in the dtype of the computation.
        weights: of query, key and value, (C', C) each.
        grads: the gradients of query, key and value, without gamma. The last is overwritten with the input's gradient
            if the two have the same dtype.
    """
    exact = exact_dtype(flat.dtype)
    *_, grad_value = grads
    weights = tuple(weight.to(exact) for weight in weights)
    scaled = [(weight * gamma).t() for weight in weights]
    grad_weights = [torch.zeros_like(weight) for weight in weights]
    grad_biases = [weight.new_zeros(len(weight)) for weight in weights]
    grad_x = grad_value if grad_value.dtype == grad.dtype else torch.empty_like(grad_value, dtype=grad.dtype)
    for image, skipped in enumerate(grad.flatten(2)):
        for columns in pieces(grad_value[image]):
            piece = skipped[:, columns].to(exact)
            source = flat[image, :, columns].to(exact).t()
            for whole, weight, grad_weight, grad_bias in zip(grads, scaled, grad_weights, grad_biases, strict=True):
                part = whole[image, :, columns].to(exact)
                grad_weight.addmm_(part, source)
                grad_bias.add_(part.sum(1))
                piece = torch.addmm(piece, weight, part)
            grad_x[image, :, columns] = piece
    return grad_x.view(grad.shape), grad_weights, grad_biases
