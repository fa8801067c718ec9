"""What every attention strategy works on: the block's projections, made when they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnprof.attention.differentiable_once import differentiable_once
from attnprof.attention.tiles import exact_dtype, pieces

Projection = Callable[[Tensor], Tensor]
"""Makes a map of a map, (B, C, H, W) -> (B, C', H', W'): a module, as a rule."""


class Projections:
    """Query, key and value of a block for one input, and the way back to its output.

        out = gamma * output(value(x) softmax(query(x)^T key(x))^T) + x

    A strategy asks for each projection when it needs it and drops it when it is done, so that the
    order of its own allocations, which decides its peak memory, is its own affair.

    A projection is computed as the matrix product that a 1x1 convolution is, or `as_written`: by
    calling the module, as users' blocks do.

    Attributes:
        x: the block's input, (B, C, H, W).
        gamma: the learned weight of the attention term, of one element; None for a block that has none.
        pool: the max-pooling factor of keys and values; 1 for none. A block that pools them itself does
            so first, in its own key and value.
        reduced: E, the channels of query and key.
        value_channels: D, those of value; C in most blocks.
        skips: whether x is added at the end; a block whose owner does that returns the attention term alone.
    """

    def __init__(
        self,
        x: Tensor,
        query: Projection,
        key: Projection,
        value: Projection,
        *,
        gamma: Tensor | None,
        reduced: int,
        value_channels: int,
        output: Projection | None = None,
        pool: int = 1,
        skips: bool = True,
    ) -> None:
        """Args:
        output: from D channels back to C; None where D = C and nothing follows the attention.
        """
        self.x, self.gamma, self.reduced, self.value_channels, self.pool = x, gamma, reduced, value_channels, pool
        self.skips = skips
        self._query, self._key, self._value, self._output = query, key, value, output

    def at(self, x: Tensor) -> Projections:
        """The same block's projections of another input, (B, C, H', W')."""
        return Projections(
            x,
            self._query,
            self._key,
            self._value,
            gamma=self.gamma,
            reduced=self.reduced,
            value_channels=self.value_channels,
            output=self._output,
            pool=self.pool,
            skips=self.skips,
        )

    def query(self, *, as_written: bool = False) -> Tensor:
        """(B, E, N), N = H * W."""
        return _apply(self._query, self.x, as_written).flatten(2)

    def key(self, *, as_written: bool = False) -> Tensor:
        """(B, E, M); M = N, or the number of pooled positions."""
        return self._pool(_apply(self._key, self.x, as_written)).flatten(2)

    def value(self, *, as_written: bool = False) -> Tensor:
        """(B, D, M)."""
        return self._pool(_apply(self._value, self.x, as_written)).flatten(2)

    def weighted_value(self, weights: Tensor) -> Tensor:
        """Sums of value over positions: weights (B, R, M), whose rows sum to 1, -> (B, R, D).

        A 1x1 convolution is affine, so the sum of its outputs is that of its inputs, projected: the value is
        only formed where it is more than that.
        """
        if self.pool > 1 or not _is_plain(self._value):
            return _weighted_sums(weights, self.value())
        inputs = _weighted_sums(weights, self.x.flatten(2))  # (B, R, C)
        return _rows_product(self._value, inputs)

    def query_rows(self, dim: int) -> Tensor:
        """(B, N, dim), contiguous; columns past E are zero."""
        return self._rows(self._query, dim, pool=1)

    def key_rows(self, dim: int) -> Tensor:
        """(B, M, dim), likewise."""
        return self._rows(self._key, dim, self.pool)

    def value_rows(self, dim: int) -> Tensor:
        """(B, M, dim); columns past D are zero."""
        return self._rows(self._value, dim, self.pool)

    def matrices(self) -> tuple[Tensor, ...] | None:
        """Weight (C', C) and bias (C',) of query, key and value, where the block is nothing but these; else None."""
        if self.pool > 1 or not self.ends_plainly or self.value_channels != self.x.shape[1]:
            return None
        pairs: list[Tensor] = []
        for conv in (self._query, self._key, self._value):
            if not _is_plain(conv) or conv.bias is None:
                return None
            pairs += [conv.weight.flatten(1), conv.bias]
        return tuple(pairs)

    @property
    def ends_plainly(self) -> bool:
        """Whether what follows the attention is `gamma * attended + x`."""
        return self._output is None and self.gamma is not None and self.skips

    def residual(self, attended: Tensor, *, as_written: bool = False) -> Tensor:
        """`gamma * output(attended) + x`, or without x; (B, D, N), or (B, D, H, W) in any layout, -> (B, C, H, W).

        In one kernel and in the layout of x, or as written: the product first.
        """
        maps = attended.view(len(attended), self.value_channels, *self.x.shape[2:])
        if self._output is not None:
            maps = _apply(self._output, maps, as_written)
        if not self.skips:
            return maps if self.gamma is None else self.gamma * maps
        if self.gamma is None:
            return maps + self.x
        return self.gamma * maps + self.x if as_written else torch.addcmul(self.x, self.gamma, maps)

    def residual_of_one(self, row: Tensor) -> Tensor:
        """The same where all positions attend alike, (B, 1, D): the term is formed once and not N times."""
        if self._output is None or _is_plain(self._output):
            term = (row if self._output is None else _rows_product(self._output, row)).mT.unsqueeze(3)  # (B, C, 1, 1)
        else:
            # Batch norm, for one, wants to see every position.
            term = _apply(self._output, row.mT.unsqueeze(3).expand(-1, -1, *self.x.shape[2:]), as_written=False)
        if self.gamma is not None:
            term = self.gamma * term
        return self.x + term if self.skips else term.expand(-1, -1, *self.x.shape[2:])

    def residual_of_rows(self, rows: Tensor) -> Tensor:
        """The same for (B, N, D), with a gradient that is laid out in rows at once; no double backward."""
        if not self.ends_plainly:
            return self.residual(rows.transpose(1, 2))
        return _RowsResidual.apply(self.x, self.gamma, rows)  # type: ignore[no-untyped-call,no-any-return]

    def _rows(self, projection: Projection, dim: int, pool: int) -> Tensor:
        if _is_plain(projection) and pool == 1:
            return _row_product(projection, self.x, dim)
        maps = _apply(projection, self.x, as_written=False)
        columns = (self._pool(maps) if pool > 1 else maps).flatten(2)
        return F.pad(columns.transpose(1, 2), (0, dim - columns.shape[1])).contiguous()

    def _pool(self, maps: Tensor) -> Tensor:
        # ceil_mode: at an odd size the last row and column pool what is left instead of being lost.
        return F.max_pool2d(maps, self.pool, ceil_mode=True) if self.pool > 1 else maps


def chain(*projections: Projection) -> Projection:
    """One after the other, as `nn.Sequential` does, of modules that have their place elsewhere."""
    return _Chain(projections)


class _Chain:
    def __init__(self, links: tuple[Projection, ...]) -> None:
        self.links = links

    def __call__(self, x: Tensor) -> Tensor:
        return _apply(self, x, as_written=True)


def _apply(projection: Projection, x: Tensor, as_written: bool) -> Tensor:
    if isinstance(projection, _Chain) or (type(projection) is nn.Sequential and not _is_hooked(projection)):
        for link in projection.links if isinstance(projection, _Chain) else projection:
            x = _apply(link, x, as_written)
        return x
    if _is_plain(projection) and not as_written:
        return _product(projection, x)
    return projection(x)


class _RowsResidual(torch.autograd.Function):
    """x (B, C, H, W), gamma (1,), rows (B, N, C) -> gamma * rows^T + x.

    Autograd's own would form gamma * dy in the layout of x, its copy in rows, and dy * rows for the gradient of
    gamma: two maps more.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gamma: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(gamma, rows)
        attended = rows.transpose(1, 2).view(x.shape)
        return torch.addcmul(x, gamma.to(x.dtype), attended.to(x.dtype))

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        gamma, rows = ctx.saved_tensors
        slope = grad.flatten(2).transpose(1, 2)  # (B, N, C)
        grad_rows = torch.empty_like(rows)
        dot = torch.zeros((), device=grad.device, dtype=exact_dtype(rows.dtype))
        for image in range(len(rows)):
            for piece in pieces(rows[image].t()):
                grad_rows[image, piece] = slope[image, piece] * gamma
                dot += (slope[image, piece] * rows[image, piece]).sum(dtype=dot.dtype)
        return grad, dot.to(gamma.dtype).view(gamma.shape), grad_rows


def _product(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """A 1x1 convolution as a matrix product, (B, C, H, W) -> (B, C', H, W).

    The convolution libraries reorder input and output: on the CPU two more maps of their size.
    """
    weight = conv.weight.flatten(1).expand(x.shape[0], -1, -1)  # (B, C', C)
    if conv.bias is None:
        product = torch.bmm(weight, x.flatten(2))  # (B, C', N)
    else:
        product = torch.baddbmm(conv.bias.unsqueeze(1), weight, x.flatten(2))
    return product.view(x.shape[0], -1, *x.shape[2:])


def _weighted_sums(weights: Tensor, columns: Tensor) -> Tensor:
    """(B, R, M), (B, C', M) -> (B, R, C')."""
    if weights.shape[1] > 1:
        return torch.bmm(weights, columns.transpose(1, 2))
    # The gradient of a batched product with one row is a batch of outer products, for which torch compiles a Triton
    # kernel at run time (2.14, torch/_native/ops/bmm_outer_product): that wants a compiler and takes seconds.
    return (columns * weights).sum(2).unsqueeze(1)


def _rows_product(conv: nn.Conv2d, rows: Tensor) -> Tensor:
    """A 1x1 convolution of a few positions, (B, R, C) -> (B, R, C')."""
    return F.linear(rows, conv.weight.flatten(1), conv.bias)


def _row_product(conv: nn.Conv2d, x: Tensor, dim: int) -> Tensor:
    """The same laid out in rows, (B, C, H, W) -> (B, N, dim), zeros behind the C' channels of the output.

    Rows of weights that are zero make the padding, so that there is never a copy in another layout.
    """
    missing = dim - conv.out_channels
    weight = F.pad(conv.weight.flatten(1), (0, 0, 0, missing)).t().expand(x.shape[0], -1, -1)  # (B, C, dim)
    rows = x.flatten(2).transpose(1, 2)  # (B, N, C)
    return torch.bmm(rows, weight) if conv.bias is None else torch.baddbmm(F.pad(conv.bias, (0, missing)), rows, weight)


def _is_plain(conv: Projection) -> TypeGuard[nn.Conv2d]:
    """Whether it is nothing but a 1x1 convolution; spectral norm, for one, adds hooks or another class."""
    return (
        type(conv) is nn.Conv2d
        and conv.kernel_size == conv.stride == conv.dilation == (1, 1)
        and conv.padding in ((0, 0), "valid", "same")
        and conv.groups == 1
        and not _is_hooked(conv)
    )


def _is_hooked(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )
