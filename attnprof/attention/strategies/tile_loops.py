"""The loops of `tiled` over a score matrix, tile by tile: one forward and two backward passes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from attnprof.attention.tiles import Tile, chunks, exact_dtype, pieces

_LOG2_E = math.log2(math.e)  # exp2 is four times faster than exp on the CPU, and no slower elsewhere


class _Buffer:
    """An allocation that serves every tile of a pass, including the smaller ones at the edges.

    For half-precision operands the products are in that precision and the softmax is in float32. Then there are two
    allocations: `operand`, which products read and write, and `exact`, which the softmax works on.
    """

    def __init__(self, like: Tensor, tile: Tile) -> None:
        size = tile.images * tile.queries * tile.keys
        self._operand = like.new_empty(size)
        half = like.dtype in (torch.float16, torch.bfloat16)
        self._exact = like.new_empty(size, dtype=torch.float32) if half else self._operand
        # Views by shape, kept because making a view takes as long as launching a kernel.
        self._views: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        """Return a @ b as a tile to compute on."""
        operand, exact = self._of_shape((a.shape[0], a.shape[1], b.shape[2]))
        torch.bmm(a, b, out=operand)
        return exact if exact is operand else exact.copy_(operand)

    def operand(self, tile: Tensor) -> Tensor:
        """Return a tile from `product`, after computing on it, as an operand of further products."""
        operand, exact = self._of_shape(tile.shape)
        return operand if exact is operand else operand.copy_(tile)

    def _of_shape(self, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        if shape not in self._views:
            operand = self._operand[: math.prod(shape)].view(shape)
            same = self._exact is self._operand
            self._views[shape] = (operand, operand if same else self._exact[: math.prod(shape)].view(shape))
        return self._views[shape]


def attend(query: Tensor, key: Tensor, value: Tensor, tile: Tile, needs_lse: bool) -> tuple[Tensor, Tensor | None]:
    """Compute softmax(query^T key) value^T.

    Args:
        query: (B, E, N).
        key: (B, E, M).
        value: (B, C, M).
        tile: the part of the scores that exists at one time.
        needs_lse: whether `backward_by_keys` will need the log-sum-exp.

    Returns:
        The output (B, C, N), and the log-sum-exp of each query's scores (B, N), or None if it is not needed.
    """
    batch, _, n_queries = query.shape
    out = value.new_empty(batch, value.shape[1], n_queries)
    lse = query.new_empty(batch, n_queries, dtype=exact_dtype(query.dtype)) if needs_lse else None
    buffer = _Buffer(query, tile)
    for images in chunks(batch, tile.images):
        q, k, v = query[images].transpose(1, 2), key[images], _rows(value[images])
        for rows in chunks(n_queries, tile.queries):
            attended, row_lse = _attend_rows(q[:, rows], k, v, tile.keys, buffer, needs_lse)
            out[images, :, rows] = attended.transpose(1, 2)
            if lse is not None and row_lse is not None:
                lse[images, rows] = row_lse
            del attended, row_lse  # freed before the next rows allocate theirs
        del v
    return out, lse


def _attend_rows(
    q: Tensor, k: Tensor, v: Tensor, step: int, buffer: _Buffer, needs_lse: bool
) -> tuple[Tensor, Tensor | None]:
    """Attend with some query rows to all keys, `step` keys at a time; return (b, rows, C) and (b, rows)."""
    n_keys = k.shape[2]
    needs_lse |= step < n_keys  # the log-sum-exp merges the parts
    merged: Tensor | None = None
    merged_lse: Tensor | None = None
    for columns in chunks(n_keys, step):
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


def backward_by_rows(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, tile: Tile, matrix: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Run the backward of `attend` with tiles of whole rows; needs nothing saved by forward.

    Args:
        grad: the gradient of the output, (B, C, N).
        query: (B, E, N).
        key: (B, E, M).
        value: (B, C, M).
        tile: the part of the scores that exists at one time, with all M keys.
        matrix: weight (C, C) and bias (C,) if the value, and so the output, is projected and `grad` is the gradient of
            the projected output.

    Returns:
        The gradients of query (B, E, N), key (B, E, M) and projected value (B, C, M), the last in float32
        at least; and the sum of `grad` times the projected output over all entries.
    """
    batch, _, n_queries = query.shape
    grad_query = query.new_empty(query.shape)
    sum_key, sum_value = (torch.zeros_like(t, dtype=exact_dtype(t.dtype)) for t in (key, value))
    dots = query.new_empty(batch, n_queries, dtype=exact_dtype(query.dtype))
    weights_buffer, slopes_buffer = _Buffer(query, tile), _Buffer(query, tile)
    for images in chunks(batch, tile.images):
        q, k, v, g = query[images], key[images], value[images], grad[images]
        for rows in chunks(n_queries, tile.queries):
            q_rows, g_rows = q[:, :, rows], g[:, :, rows]
            weights = weights_buffer.product(q_rows.transpose(1, 2), k)
            torch.softmax(weights, -1, out=weights)
            _add_product(sum_value[images], g_rows, weights_buffer.operand(weights))
            # The bias is left out: it adds the same constant to a row of dP and to D, so it cancels in dP - D.
            pulled = g_rows.transpose(1, 2) if matrix is None else g_rows.transpose(1, 2) @ matrix[0]
            slopes = slopes_buffer.product(pulled, v).mul_(weights)
            dot = slopes.sum(-1, keepdim=True)
            ds = slopes_buffer.operand(slopes.addcmul_(weights, dot, value=-1))
            _add_product(sum_key[images], q_rows, ds)
            grad_query[images, :, rows] = torch.bmm(k, ds.transpose(1, 2))
            dots[images, rows] = dot.squeeze(-1)
    dot = dots.sum()
    if matrix is not None:
        dot += grad.sum((0, 2), dtype=dot.dtype) @ matrix[1].to(dot.dtype)
    return grad_query, sum_key.to(key.dtype), sum_value, dot


def backward_by_keys(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    lse: Tensor,
    tile: Tile,
    matrix: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Run the backward of `attend` with tiles of any shape; needs the output and the log-sum-exp of forward.

    A chunk of keys against all queries gives its part of dV and dK whole. Only dQ, an eighth of the size of a map, is
    summed over chunks (in float32).

    Args:
        grad: the gradient of the output, (B, C, N).
        query: (B, E, N).
        key: (B, E, M).
        value: (B, C, M).
        out: the output, projected if there is a `matrix`, (B, C, N).
        lse: the log-sum-exp of each query's scores, (B, N).
        tile: the part of the scores that exists at one time.
        matrix: weight (C, C) and bias (C,) if the value, and so the output, is projected and `grad` is the gradient of
            the projected output.

    Returns:
        The gradients of query (B, E, N), key (B, E, M) and projected value (B, C, M); and the sum of `grad` times `out`
        over all entries.
    """
    batch, _, n_queries = query.shape
    grad_query, grad_key, grad_value = (t.new_empty(t.shape) for t in (query, key, value))
    weights_buffer, slopes_buffer = _Buffer(query, tile), _Buffer(query, tile)
    row_dot = _row_dot(grad, out, lse.dtype)
    for images in chunks(batch, tile.images):
        q, k, g = query[images], key[images], grad[images]
        k_rows, q_rows, g_rows = k.transpose(1, 2), _rows(q), _rows(g)
        image_lse, image_dot = lse[images].unsqueeze(1), row_dot[images].unsqueeze(1)
        sum_query = torch.zeros_like(q, dtype=lse.dtype)
        for columns in chunks(key.shape[2], tile.keys):
            v_rows = value[images, :, columns].transpose(1, 2)
            if matrix is not None:
                v_rows = v_rows @ matrix[0].t() + matrix[1]
            sum_key: Tensor | None = None
            sum_value: Tensor | None = None
            for rows in chunks(n_queries, tile.queries):
                weights = weights_buffer.product(k_rows[:, columns], q[:, :, rows])
                weights.sub_(image_lse[:, :, rows]).mul_(_LOG2_E).exp2_()
                slopes = slopes_buffer.product(v_rows, g[:, :, rows])
                slopes.sub_(image_dot[:, :, rows]).mul_(weights)
                p, ds = weights_buffer.operand(weights), slopes_buffer.operand(slopes)
                sum_value = _plus(sum_value, torch.bmm(p, g_rows[:, rows]))
                sum_key = _plus(sum_key, torch.bmm(ds, q_rows[:, rows]))
                sum_query[:, :, rows] += torch.bmm(k[:, :, columns], ds)
            assert sum_key is not None and sum_value is not None
            grad_key[images, :, columns] = sum_key.transpose(1, 2)
            grad_value[images, :, columns] = sum_value.transpose(1, 2)
        grad_query[images] = sum_query
        del q_rows, g_rows, sum_query
    return grad_query, grad_key, grad_value, row_dot.sum()


def _row_dot(a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
    """Sum a * b over channels, (B, C, N) -> (B, N), without making the whole product."""
    sums = (
        torch.cat([(x[:, columns] * y[:, columns]).sum(0, dtype=dtype) for columns in pieces(x)])
        for x, y in zip(a, b, strict=True)
    )
    return torch.stack(list(sums))


def _rows(columns: Tensor) -> Tensor:
    """Return (B, C, N) as (B, N, C); a copy on the CPU, whose matrix products read contiguous rows 1.5x faster."""
    rows = columns.transpose(1, 2)
    return rows.contiguous() if columns.device.type == "cpu" else rows


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """Add a @ b to `total` in place; if the dtypes agree, without a temporary product."""
    if total.dtype == a.dtype:
        total.baddbmm_(a, b)
    else:
        total += torch.bmm(a, b)


def _plus(total: Tensor | None, part: Tensor) -> Tensor:
    return part.to(exact_dtype(part.dtype)) if total is None else total.add_(part)
