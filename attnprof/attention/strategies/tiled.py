"""Exact attention tile by tile: the N x M weights never exist, in forward or in training.

Both strategies here are one algorithm. Forward takes the softmax of a tile's scores; where a tile has
not all keys, the partial results are merged by each row's log-sum-exp (online softmax: Milakov and
Gimelshein 2018, arXiv:1805.02867; FlashAttention, Dao et al. 2022, arXiv:2205.14135). Backward
recomputes each tile's weights P from its scores S and keeps nothing of size N x M:

    dV = P^T dO                 D  = rowsum(P * dP) = rowsum(dO * O)
    dP = dO V^T                 dS = P * (dP - D)
    dQ = dS K                   dK = dS^T Q

Of maps, tensors of the size of the input, there are no more than need be either:

- V = X W^T + b is linear and each row of P sums to 1, so P V = (P X) W^T + b: the input itself is
  attended to, and what comes of it is projected.
- dO = gamma * dy: all of the above is computed with dy, and gamma scales the results.
- Where tiles have whole rows, D is a sum over the tile, and O is not kept for it.
- dV turns into dX in place, piece by piece.

At its peak a training step of `chunked` holds the input, the output and their gradients, and of the
projections and tiles some quarters of such a map.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from attnprof.attention.differentiable_once import differentiable_once
from attnprof.attention.projections import Projections
from attnprof.attention.strategies.tile_loops import attend, backward_by_keys, backward_by_rows
from attnprof.attention.tiles import Tile, exact_dtype, pieces, row_tile, tall_tile


def chunked(p: Projections, queries: int | None = None) -> tuple[Tensor, None]:
    """Chunks of `queries` query rows against all keys: a tile of queries x M scores.

    Returns:
        The block's output (B, C, H, W); there is no attention map.
    """
    return _block(p, lambda query, key: row_tile(query, key, queries)), None


def online(p: Projections, queries: int | None = None, keys: int | None = None) -> tuple[Tensor, None]:
    """Tiles of `queries` x `keys` scores: the memory of a tile does not depend on N.

    Returns:
        The block's output (B, C, H, W); there is no attention map.
    """
    sizes = (queries, keys) if queries and keys else None
    return _block(p, lambda query, key: tall_tile(query, key, sizes)), None


def _block(p: Projections, tile_for: Callable[[Tensor, Tensor], Tile]) -> Tensor:
    matrices = p.matrices()
    skip = (p.x, p.gamma) if p.ends_plainly else (None, None)
    inputs = (*skip, *(matrices or (p.query(), p.key(), p.value())))
    # Asked here: inside an autograd function gradients are off, and under no_grad parameters still want theirs.
    training = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs)
    device = p.x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else p.x.dtype
    # Inside, each product runs in the dtype of its operands and the softmax in float32:
    # what autocast would add are casts of whole tiles.
    with torch.autocast(device, enabled=False):
        if matrices:
            return _TiledBlock.apply(*inputs, dtype, tile_for, training)  # type: ignore[no-untyped-call,no-any-return]
        out: Tensor = _TiledAttention.apply(*inputs, tile_for, training)  # type: ignore[no-untyped-call]
    return out if p.ends_plainly else p.residual(out)


class _TiledAttention(torch.autograd.Function):
    """query (B, E, N), key (B, E, M), value (B, D, M) -> the attended values (B, D, N).

    Given x (B, C, H, W) and gamma too, D = C: the block's output gamma * attended + x, (B, C, H, W).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor | None, gamma: Tensor | None, query: Tensor, key: Tensor, value: Tensor,
        tile_for: Callable[[Tensor, Tensor], Tile], training: bool,
    ) -> Tensor:  # fmt: skip
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
    """The block from weights (C', C) and biases (C',) of query, key and value, all of it in `dtype`."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gamma: Tensor, query_weight: Tensor, query_bias: Tensor, key_weight: Tensor,
        key_bias: Tensor, weight: Tensor, bias: Tensor, dtype: torch.dtype,
        tile_for: Callable[[Tensor, Tensor], Tile], training: bool,
    ) -> Tensor:  # fmt: skip
        flat = x.flatten(2).to(dtype)  # (B, C, N)
        query, key = _product(flat, query_weight, query_bias), _product(flat, key_weight, key_bias)
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
            query, key = _product(flat, query_weight, query_bias), _product(flat, key_weight, key_bias)
            matrix = (weight.to(ctx.dtype), bias.to(ctx.dtype))
            if out is None:
                *grads, dot = backward_by_rows(slope, query, key, flat, ctx.tile, matrix)
            else:
                *grads, dot = backward_by_keys(slope, query, key, flat, out, lse, ctx.tile, matrix)
            del query, key
            weights = (query_weight, key_weight, weight)
            grad_x, grad_weights, grad_biases = _input_gradient(grad, gamma, flat, weights, grads)
        interleaved = (g.mul_(gamma).to(w.dtype) for pair in zip(grad_weights, grad_biases, strict=True)
                       for g, w in zip(pair, (weight, bias), strict=True))  # fmt: skip
        return grad_x, dot.to(gamma.dtype).view(gamma.shape), *interleaved, None, None, None


def _product(flat: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(B, C, N) -> (B, C', N)."""
    weight = weight.to(flat.dtype).expand(len(flat), -1, -1)
    return torch.baddbmm(bias.to(flat.dtype).unsqueeze(1), weight, flat)


def _residual(x: Tensor, gamma: Tensor, out: Tensor, keeps: bool) -> Tensor:
    """gamma * out + x, in place of `out` (B, C, N) unless that is kept."""
    if not keeps and x.is_contiguous() and x.dtype == out.dtype == gamma.dtype:
        return out.mul_(gamma).view(x.shape).add_(x)
    return torch.addcmul(x, gamma, out.view(x.shape))


def _input_gradient(
    grad: Tensor, gamma: Tensor, flat: Tensor, weights: tuple[Tensor, ...], grads: list[Tensor]
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """The gradients of the input, and without gamma those of weights and biases.

    Args:
        grads: of query, key and value, without gamma. The input's takes the last one's place, if that is of
            its dtype.
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
