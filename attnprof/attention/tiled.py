"""Exact attention tile by tile: the N x M weights never exist, in forward or in training.

Both strategies here are one algorithm. Forward keeps, for each query row, the log-sum-exp of its
scores; with several key tiles the partial results are merged by it (online softmax: Milakov and
Gimelshein 2018, arXiv:1805.02867; FlashAttention, Dao et al. 2022, arXiv:2205.14135). Backward
recomputes each tile's weights as exp(scores - lse) and keeps nothing of size N x M:

    P = exp(S - lse)            dV = P^T dO
    dP = dO V^T                 D  = rowsum(dO * O)
    dS = P * (dP - D)           dQ = dS K,  dK = dS^T Q

The skip connection, y = gamma * O + x, is part of it: dO = gamma * dy would be one more map of the
size of x. Instead all of the above is computed with dy, and gamma scales the results.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from attnprof.attention.projections import Projections
from attnprof.attention.tiles import Tile, row_tile, tall_tile

_LOG2_E = math.log2(math.e)  # exp2 is four times faster than exp on the CPU, and no slower elsewhere


def chunked(p: Projections, queries: int | None = None) -> tuple[Tensor, None]:
    """Chunks of `queries` query rows against all keys: a tile of queries x M scores.

    Returns:
        The block's output (B, C, H, W); there is no attention map.
    """
    query, key = p.query(), p.key()
    return _attend(p, query, key, row_tile(query, key, queries)), None


def online(p: Projections, queries: int | None = None, keys: int | None = None) -> tuple[Tensor, None]:
    """Tiles of `queries` x `keys` scores: the memory of a tile does not depend on N.

    Returns:
        The block's output (B, C, H, W); there is no attention map.
    """
    query, key = p.query(), p.key()
    sizes = (queries, keys) if queries and keys else None
    return _attend(p, query, key, tall_tile(query, key, sizes)), None


def _attend(p: Projections, query: Tensor, key: Tensor, tile: Tile) -> Tensor:
    # Inside, each product runs in the dtype of its operands and the softmax in float32:
    # what autocast would add are casts of whole tiles.
    value = p.value()
    inputs = (p.x, p.gamma, query, key, value)
    # Asked here: inside an autograd function gradients are off, and under no_grad parameters still want theirs.
    training = torch.is_grad_enabled() and any(t.requires_grad for t in inputs)
    with torch.autocast(query.device.type, enabled=False):
        return _TiledAttention.apply(*inputs, tile, training)  # type: ignore[no-untyped-call,no-any-return]


class _TiledAttention(torch.autograd.Function):
    """(B, C, H, W), (1,), (B, E, N), (B, E, M), (B, C, M) -> (B, C, H, W)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gamma: Tensor, query: Tensor, key: Tensor, value: Tensor, tile: Tile, training: bool
    ) -> Tensor:
        out, lse = _forward(query, key, value, tile, needs_lse=training)
        if not training and x.is_contiguous() and x.dtype == out.dtype == gamma.dtype:
            return out.mul_(gamma).view(x.shape).add_(x)
        if training:
            ctx.tile = tile
            ctx.save_for_backward(gamma, query, key, value, out, lse)
        return torch.addcmul(x, gamma, out.view(x.shape))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gamma, query, key, value, out, lse = ctx.saved_tensors
        slope = grad.flatten(2).to(value.dtype)
        with torch.autocast(grad.device.type, enabled=False):
            *grads, row_dot = _backward(slope, query, key, value, out, lse, ctx.tile)
        for unscaled in grads:
            unscaled.mul_(gamma)
        return grad, row_dot.sum().to(gamma.dtype).view(gamma.shape), *grads, None, None


class _Buffer:
    """One allocation that serves every tile of a pass, the smaller ones at the edges too.

    For half-precision operands the products are in that precision and the softmax in float32, so
    there are two: `operand` (what products read and write) and `exact` (what the softmax works on).
    """

    def __init__(self, like: Tensor, tile: Tile) -> None:
        size = tile.images * tile.queries * tile.keys
        self._operand = like.new_empty(size)
        half = like.dtype in (torch.float16, torch.bfloat16)
        self._exact = like.new_empty(size, dtype=torch.float32) if half else self._operand

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        """a @ b as a tile to compute on."""
        shape = (a.shape[0], a.shape[1], b.shape[2])
        operand, exact = _view(self._operand, shape), _view(self._exact, shape)
        torch.bmm(a, b, out=operand)
        return exact if exact.data_ptr() == operand.data_ptr() else exact.copy_(operand)

    def operand(self, tile: Tensor) -> Tensor:
        """The tile from `product`, after computing on it, as an operand of further products."""
        operand = _view(self._operand, tuple(tile.shape))
        return operand if tile.data_ptr() == operand.data_ptr() else operand.copy_(tile)


def _forward(query: Tensor, key: Tensor, value: Tensor, tile: Tile, needs_lse: bool) -> tuple[Tensor, Tensor | None]:
    """(B, C, N), and where needed the log-sum-exp of each query's scores, (B, N)."""
    batch, _, n_queries = query.shape
    out = value.new_empty(batch, value.shape[1], n_queries)
    stat_dtype = torch.promote_types(query.dtype, torch.float32)
    lse = query.new_empty(batch, n_queries, dtype=stat_dtype) if needs_lse else None
    buffer = _Buffer(query, tile)
    for images in _chunks(batch, tile.images):
        q, k, v = query[images].transpose(1, 2), key[images], _rows(value[images])
        for rows in _chunks(n_queries, tile.queries):
            attended, row_lse = _attend_rows(q[:, rows], k, v, tile.keys, buffer, needs_lse)
            out[images, :, rows] = attended.transpose(1, 2)
            if lse is not None and row_lse is not None:
                lse[images, rows] = row_lse
            del attended, row_lse  # before the next have theirs
        del v
    return out, lse


def _attend_rows(
    q: Tensor, k: Tensor, v: Tensor, step: int, buffer: _Buffer, needs_lse: bool
) -> tuple[Tensor, Tensor | None]:
    """Some query rows against all keys, `step` keys at a time; (b, rows, C) and (b, rows)."""
    n_keys = k.shape[2]
    needs_lse |= step < n_keys  # by which parts are merged
    merged: Tensor | None = None
    merged_lse: Tensor | None = None
    for columns in _chunks(n_keys, step):
        scores = buffer.product(q, k[:, :, columns])
        top = scores.amax(-1) if needs_lse else None
        weights = torch.softmax(scores, -1, out=scores)
        # The largest weight of a row is 1 / sum(exp(scores - top)).
        lse = top - weights.amax(-1).log_() if top is not None else None
        part = torch.bmm(buffer.operand(weights), v[:, columns])
        if step >= n_keys:
            return part, lse
        part = part.to(scores.dtype)
        if merged is None or merged_lse is None or lse is None:
            merged, merged_lse = part, lse
        else:
            merged.lerp_(part, torch.sigmoid(lse - merged_lse).unsqueeze(-1))
            merged_lse = torch.logaddexp(merged_lse, lse)
    assert merged is not None
    return merged, merged_lse


def _backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, lse: Tensor, tile: Tile
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients for `grad` (B, C, N) as that of `out`, and its dot product with `out`, (B, N)."""
    batch, _, n_queries = query.shape
    n_keys = key.shape[2]
    # The tiles lie transposed to forward's, (keys, queries): a chunk of keys against all queries gives
    # its dV and dK whole, and only dQ, an eighth of the size, is summed over chunks (in float32).
    across = Tile(tile.images, *_transposed(tile, n_queries, n_keys))
    grad_query = query.new_empty(query.shape)
    grad_key = key.new_empty(key.shape)
    grad_value = value.new_empty(value.shape)
    weights_buffer, scores_buffer = _Buffer(query, across), _Buffer(query, across)
    row_dot = _row_dot(grad, out, lse.dtype)
    for images in _chunks(batch, across.images):
        q, k, v, g = query[images], key[images], value[images], grad[images]
        k_rows, v_rows = k.transpose(1, 2), v.transpose(1, 2)
        q_rows, g_rows = _rows(q), _rows(g)
        image_lse, image_dot = lse[images].unsqueeze(1), row_dot[images].unsqueeze(1)
        sum_query = torch.zeros_like(q, dtype=lse.dtype)
        for columns in _chunks(n_keys, across.keys):
            sum_key: Tensor | None = None
            sum_value: Tensor | None = None
            for rows in _chunks(n_queries, across.queries):
                weights = weights_buffer.product(k_rows[:, columns], q[:, :, rows])
                weights.sub_(image_lse[:, :, rows]).mul_(_LOG2_E).exp2_()
                slopes = scores_buffer.product(v_rows[:, columns], g[:, :, rows])
                slopes.sub_(image_dot[:, :, rows]).mul_(weights)
                p, ds = weights_buffer.operand(weights), scores_buffer.operand(slopes)
                sum_value = _plus(sum_value, torch.bmm(p, g_rows[:, rows]))
                sum_key = _plus(sum_key, torch.bmm(ds, q_rows[:, rows]))
                sum_query[:, :, rows] += torch.bmm(k[:, :, columns], ds)
            assert sum_key is not None and sum_value is not None
            grad_key[images, :, columns] = sum_key.transpose(1, 2)
            grad_value[images, :, columns] = sum_value.transpose(1, 2)
        grad_query[images] = sum_query
        del q_rows, g_rows, sum_query
    return grad_query, grad_key, grad_value, row_dot


def _transposed(tile: Tile, n_queries: int, n_keys: int) -> tuple[int, int]:
    """Queries and keys of backward's tile: a tile of whole rows becomes one of whole columns."""
    if tile.keys < n_keys:
        return tile.queries, tile.keys
    return n_queries, max(1, min(n_keys, tile.queries * tile.keys // n_queries))


def _row_dot(a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
    """sum over channels of a * b, (B, C, N) -> (B, N), without a product of that whole size."""
    return torch.stack([(x * y).sum(0, dtype=dtype) for x, y in zip(a.unbind(0), b.unbind(0), strict=True)])


def _rows(columns: Tensor) -> Tensor:
    """(B, C, N) -> (B, N, C). Copied on the CPU, whose matrix products read rows 1.5x faster."""
    rows = columns.transpose(1, 2)
    return rows.contiguous() if columns.device.type == "cpu" else rows


def _plus(total: Tensor | None, part: Tensor) -> Tensor:
    if total is None:
        return part.to(torch.promote_types(part.dtype, torch.float32))
    return total.add_(part)


def _view(buffer: Tensor, shape: tuple[int, ...]) -> Tensor:
    size = 1
    for extent in shape:
        size *= extent
    return buffer[:size].view(shape)


def _chunks(length: int, step: int) -> Iterator[slice]:
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))
