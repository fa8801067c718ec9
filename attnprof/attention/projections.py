"""What every attention strategy works on: the block's projections, made when they are asked for."""

from __future__ import annotations

from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnprof.attention.once import differentiable_once
from attnprof.attention.tiles import exact_dtype, pieces


class Projections:
    """Query, key and value of a block for one input, and the way back to its output.

    A strategy asks for each projection when it needs it and drops it when it is done, so that the
    order of its own allocations, which decides its peak memory, is its own affair.

    A projection is computed as the matrix product that a 1x1 convolution is, or `as_written`: by
    calling the convolution, as users' blocks do.

    Attributes:
        x: the block's input, (B, C, H, W).
        gamma: the learned weight of the attention term, (1,).
        pool: the max-pooling factor of keys and values; 1 for none.
        reduced: E, the channels of query and key.
    """

    def __init__(
        self,
        x: Tensor,
        query_conv: nn.Module,
        key_conv: nn.Module,
        value_conv: nn.Module,
        gamma: Tensor,
        *,
        reduced: int,
        pool: int = 1,
    ) -> None:
        self.x, self.gamma, self.reduced, self.pool = x, gamma, reduced, pool
        self._query_conv, self._key_conv, self._value_conv = query_conv, key_conv, value_conv

    def query(self, *, as_written: bool = False) -> Tensor:
        """(B, E, N), N = H * W."""
        return self._project(self._query_conv, as_written).flatten(2)

    def key(self, *, as_written: bool = False) -> Tensor:
        """(B, E, M); M = N, or the number of pooled positions."""
        return self._pooled(self._project(self._key_conv, as_written)).flatten(2)

    def value(self, *, as_written: bool = False) -> Tensor:
        """(B, C, M)."""
        return self._pooled(self._project(self._value_conv, as_written)).flatten(2)

    def query_rows(self, dim: int) -> Tensor:
        """(B, N, dim), contiguous; columns past E are zero."""
        return self._rows(self._query_conv, dim, pool=1)

    def key_rows(self, dim: int) -> Tensor:
        """(B, M, dim), likewise."""
        return self._rows(self._key_conv, dim, self.pool)

    def value_rows(self, dim: int) -> Tensor:
        """(B, M, dim); columns past C are zero."""
        return self._rows(self._value_conv, dim, self.pool)

    def matrices(self) -> tuple[Tensor, ...] | None:
        """Weight (C', C) and bias (C',) of query, key and value, where they are nothing but these; else None."""
        convs = (self._query_conv, self._key_conv, self._value_conv)
        if self.pool > 1:
            return None
        pairs: list[Tensor] = []
        for conv in convs:
            if not _is_plain(conv):
                return None
            assert conv.bias is not None
            pairs += [conv.weight.flatten(1), conv.bias]
        return tuple(pairs)

    def residual(self, attended: Tensor) -> Tensor:
        """`gamma * attended + x` in one kernel and in the layout of x; (B, C, N) -> (B, C, H, W)."""
        return torch.addcmul(self.x, self.gamma, attended.view(self.x.shape))

    def residual_of_rows(self, rows: Tensor) -> Tensor:
        """The same for (B, N, C), with a gradient that is laid out in rows at once; no double backward."""
        return _RowsResidual.apply(self.x, self.gamma, rows)  # type: ignore[no-untyped-call,no-any-return]

    def _rows(self, conv: nn.Module, dim: int, pool: int) -> Tensor:
        if _is_plain(conv) and pool == 1:
            return _row_product(conv, self.x, dim)
        maps = self._project(conv, as_written=False)
        columns = (self._pooled(maps) if pool > 1 else maps).flatten(2)
        return F.pad(columns.transpose(1, 2), (0, dim - columns.shape[1])).contiguous()

    def _project(self, conv: nn.Module, as_written: bool) -> Tensor:
        if _is_plain(conv) and not as_written:
            return _product(conv, self.x)
        return conv(self.x)  # type: ignore[no-any-return]

    def _pooled(self, maps: Tensor) -> Tensor:
        # ceil_mode: at an odd size the last row and column pool what is left instead of being lost.
        return F.max_pool2d(maps, self.pool, ceil_mode=True) if self.pool > 1 else maps


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
    assert conv.bias is not None
    weight = conv.weight.flatten(1).expand(x.shape[0], -1, -1)  # (B, C', C)
    product = torch.baddbmm(conv.bias.unsqueeze(1), weight, x.flatten(2))  # (B, C', N)
    return product.view(x.shape[0], -1, *x.shape[2:])


def _row_product(conv: nn.Conv2d, x: Tensor, dim: int) -> Tensor:
    """The same laid out in rows, (B, C, H, W) -> (B, N, dim), zeros behind the C' channels of the output.

    Rows of weights that are zero make the padding, so that there is never a copy in another layout.
    """
    assert conv.bias is not None
    missing = dim - conv.out_channels
    weight = F.pad(conv.weight.flatten(1), (0, 0, 0, missing)).t().expand(x.shape[0], -1, -1)  # (B, C, dim)
    return torch.baddbmm(F.pad(conv.bias, (0, missing)), x.flatten(2).transpose(1, 2), weight)


def _is_plain(conv: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether it is nothing but a 1x1 convolution; spectral norm, for one, adds hooks or another class."""
    return (
        type(conv) is nn.Conv2d
        and conv.kernel_size == conv.stride == conv.dilation == (1, 1)
        and conv.padding in ((0, 0), "valid", "same")
        and conv.groups == 1
        and conv.bias is not None
        and not (conv._forward_hooks or conv._forward_pre_hooks or conv._backward_hooks or conv._backward_pre_hooks)
    )
