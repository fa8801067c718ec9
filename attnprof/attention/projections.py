"""The query, key and value projections of a block, computed when a strategy asks for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnprof.attention.differentiable_once import differentiable_once
from attnprof.attention.tiles import exact_dtype, pieces

Projection = Callable[[Tensor], Tensor]
"""A function from map to map, (B, C, H, W) -> (B, C', H', W'): usually a module."""


class BlockParts(NamedTuple):
    """The parts of a block by their places in its formula, which is that of `Projections`.

    It is a named tuple and no dataclass because torch.compile makes it inside the graph.

    Attributes:
        query: from C channels to E.
        key: from C channels to E.
        value: from C channels to D.
        gamma: the learned weight of the attention term, one element; None if the block has none.
        reduced: E, the channels of query and key.
        value_channels: D, the channels of value; C in most blocks.
        output: from D channels back to C; None if D = C and nothing follows the attention.
        skips: whether x is added at the end. If not, the block returns the attention term, and its owner adds x.
    """

    query: Projection
    key: Projection
    value: Projection
    gamma: Tensor | None
    reduced: int
    value_channels: int
    output: Projection | None = None
    skips: bool = True


class Projections:
    """The query, key and value of a block for one input, and the way back to the block's output.

        out = gamma * output(value(x) softmax(query(x)^T key(x))^T) + x

    A strategy asks for each projection when it needs it, and drops it when it is done with it. So each strategy decides
    on the order of its own allocations, which decides its peak memory.

    A projection is computed as the matrix product that a 1x1 convolution is; or, with `as_written`, by calling the
    module, as users' blocks do.

    Attributes:
        x: the block's input, (B, C, H, W).
        parts: the block's modules.
        pool: the factor by which the strategy max-pools keys and values; 1 for none. A block that pools them itself
            does so before that, in its own key and value.
    """

    def __init__(self, x: Tensor, parts: BlockParts, pool: int = 1) -> None:
        self.x, self.parts, self.pool = x, parts, pool

    def at(self, x: Tensor) -> Projections:
        """Return the same block's projections of another input, (B, C, H', W')."""
        return Projections(x, self.parts, self.pool)

    def query(self, *, as_written: bool = False) -> Tensor:
        """Return the query, (B, E, N) with N = H * W."""
        return _apply(self.parts.query, self.x, as_written).flatten(2)

    def key(self, *, as_written: bool = False) -> Tensor:
        """Return the key, (B, E, M); M = N, or the number of pooled positions."""
        return self._pool(_apply(self.parts.key, self.x, as_written)).flatten(2)

    def value(self, *, as_written: bool = False) -> Tensor:
        """Return the value, (B, D, M)."""
        return self._pool(_apply(self.parts.value, self.x, as_written)).flatten(2)

    def weighted_value(self, weights: Tensor) -> Tensor:
        """Sum the value over positions, with weights.

        A 1x1 convolution is affine and the weights of a row sum to 1, so the inputs are summed first and the few sums
        are projected. The value itself is formed only if it is more than such a convolution.

        Args:
            weights: (B, R, M), rows summing to 1.

        Returns:
            The weighted sums, (B, R, D).
        """
        if self.pool > 1 or not _is_plain(self.parts.value):
            return _weighted_sums(weights, self.value())
        inputs = _weighted_sums(weights, self.x.flatten(2))  # (B, R, C)
        return _project_few_rows(self.parts.value, inputs)

    def query_rows(self, dim: int) -> Tensor:
        """Return the query in rows, (B, N, dim), contiguous; columns past E are zero."""
        return self._rows(self.parts.query, dim, pool=1)

    def key_rows(self, dim: int) -> Tensor:
        """Return the key in rows, (B, M, dim), contiguous; columns past E are zero."""
        return self._rows(self.parts.key, dim, self.pool)

    def value_rows(self, dim: int) -> Tensor:
        """Return the value in rows, (B, M, dim), contiguous; columns past D are zero."""
        return self._rows(self.parts.value, dim, self.pool)

    def matrices(self) -> tuple[Tensor, ...] | None:
        """Return the matrices of a block that consists of nothing but three 1x1 convolutions and its gamma.

        Returns:
            Weight (C', C) and bias (C',) of query, key and value, six tensors; None for any other block.
        """
        if self.pool > 1 or not self.ends_plainly or self.parts.value_channels != self.x.shape[1]:
            return None
        pairs: list[Tensor] = []
        for conv in (self.parts.query, self.parts.key, self.parts.value):
            if not _is_plain(conv) or conv.bias is None:
                return None
            pairs += [conv.weight.flatten(1), conv.bias]
        return tuple(pairs)

    @property
    def ends_plainly(self) -> bool:
        """Whether exactly `gamma * attended + x` follows the attention."""
        return self.parts.output is None and self.parts.gamma is not None and self.parts.skips

    def residual(self, attended: Tensor, *, as_written: bool = False) -> Tensor:
        """Compute `gamma * output(attended) + x`, or only the attention term if the block does not add x.

        Args:
            attended: (B, D, N), or (B, D, H, W) in any layout.
            as_written: whether to multiply first and add then, as users' blocks do; if not, one kernel does both and
                the result has the layout of x.

        Returns:
            The block's output, (B, C, H, W).
        """
        maps = attended.view(len(attended), self.parts.value_channels, *self.x.shape[2:])
        if self.parts.output is not None:
            maps = _apply(self.parts.output, maps, as_written)
        if not self.parts.skips:
            return maps if self.parts.gamma is None else self.parts.gamma * maps
        if self.parts.gamma is None:
            return maps + self.x
        return self.parts.gamma * maps + self.x if as_written else torch.addcmul(self.x, self.parts.gamma, maps)

    def residual_of_one(self, row: Tensor) -> Tensor:
        """Compute the output of a block whose positions all attend alike.

        The attention term is formed once and not N times, if the output is a plain convolution.

        Args:
            row: what each position gets, (B, 1, D).

        Returns:
            The block's output, (B, C, H, W).
        """
        output = self.parts.output
        if output is None or _is_plain(output):
            term = (row if output is None else _project_few_rows(output, row)).mT.unsqueeze(3)  # (B, C, 1, 1)
        else:
            # The output may contain a module that needs to see every position, such as batch norm.
            term = _apply(output, row.mT.unsqueeze(3).expand(-1, -1, *self.x.shape[2:]), as_written=False)
        if self.parts.gamma is not None:
            term = self.parts.gamma * term
        return self.x + term if self.parts.skips else term.expand(-1, -1, *self.x.shape[2:])

    def residual_of_rows(self, rows: Tensor) -> Tensor:
        """Compute the block's output from rows, with a gradient that is laid out in rows from the start.

        If `ends_plainly`, it has no double backward.

        Args:
            rows: what each position gets, (B, N, D).

        Returns:
            The block's output, (B, C, H, W).
        """
        if not self.ends_plainly:
            return self.residual(rows.transpose(1, 2))
        return _RowsResidual.apply(self.x, self.parts.gamma, rows)  # type: ignore[no-untyped-call,no-any-return]

    def _rows(self, projection: Projection, dim: int, pool: int) -> Tensor:
        if _is_plain(projection) and pool == 1:
            return _project_into_rows(projection, self.x, dim)
        maps = _apply(projection, self.x, as_written=False)
        columns = (self._pool(maps) if pool > 1 else maps).flatten(2)
        return F.pad(columns.transpose(1, 2), (0, dim - columns.shape[1])).contiguous()

    def _pool(self, maps: Tensor) -> Tensor:
        # ceil_mode: at an odd size the last row and column pool what is left; without it they would be lost.
        return F.max_pool2d(maps, self.pool, ceil_mode=True) if self.pool > 1 else maps


def chain(*projections: Projection) -> Projection:
    """Return projections one after the other as one, as `nn.Sequential` would, without owning the modules."""
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
        columns = project_columns(x.flatten(2), projection.weight.flatten(1), projection.bias)
        return columns.view(x.shape[0], -1, *x.shape[2:])
    return projection(x)


class _RowsResidual(torch.autograd.Function):
    """The residual gamma * rows^T + x of x (B, C, H, W), gamma (1,) and rows (B, N, C).

    Autograd's own backward would form gamma * dy in the layout of x, a copy of it in rows, and dy * rows for the
    gradient of gamma: two maps more.
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


def project_columns(columns: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Apply a 1x1 convolution as a matrix product.

    The convolution libraries reorder input and output, which takes two more maps of their size on the CPU.

    Args:
        columns: a map by positions, (B, C, N).
        weight: (C', C).
        bias: (C',), or None.

    Returns:
        The projected map, (B, C', N).
    """
    weights = weight.expand(len(columns), -1, -1)  # (B, C', C)
    return torch.bmm(weights, columns) if bias is None else torch.baddbmm(bias.unsqueeze(1), weights, columns)


def _weighted_sums(weights: Tensor, columns: Tensor) -> Tensor:
    """Sum columns (B, C', M) with weights (B, R, M), -> (B, R, C')."""
    if weights.shape[1] > 1:
        return torch.bmm(weights, columns.transpose(1, 2))
    # The gradient of a batched product with one row is a batch of outer products. torch 2.14 compiles a Triton kernel
    # for those at run time (torch/_native/ops/bmm_outer_product), which needs a compiler and takes seconds.
    return (columns * weights).sum(2).unsqueeze(1)


def _project_few_rows(conv: nn.Conv2d, rows: Tensor) -> Tensor:
    """Apply a 1x1 convolution to a few positions, (B, R, C) -> (B, R, C')."""
    return F.linear(rows, conv.weight.flatten(1), conv.bias)


def _project_into_rows(conv: nn.Conv2d, x: Tensor, dim: int) -> Tensor:
    """Apply a 1x1 convolution and lay the result out in rows, (B, C, H, W) -> (B, N, dim).

    The columns past the C' channels of the output are zero. Zero rows of the weight make that padding, so that there is
    never a copy in another layout.
    """
    missing = dim - conv.out_channels
    weight = F.pad(conv.weight.flatten(1), (0, 0, 0, missing)).t().expand(x.shape[0], -1, -1)  # (B, C, dim)
    rows = x.flatten(2).transpose(1, 2)  # (B, N, C)
    return torch.bmm(rows, weight) if conv.bias is None else torch.baddbmm(F.pad(conv.bias, (0, missing)), rows, weight)


def _is_plain(conv: Projection) -> TypeGuard[nn.Conv2d]:
    """Return whether a projection is a 1x1 convolution and nothing more: spectral norm adds hooks or another class."""
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
