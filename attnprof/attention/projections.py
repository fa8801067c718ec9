"""What every attention strategy works on: the block's projections, made when they are asked for."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Projections:
    """Query, key and value of a block for one input, and the way back to its output.

    A strategy asks for each projection when it needs it and drops it when it is done, so that the
    order of its own allocations, which decides its peak memory, is its own affair.

    Attributes:
        x: the block's input, (B, C, H, W).
        gamma: the learned weight of the attention term, (1,).
    """

    def __init__(
        self, x: Tensor, query_conv: nn.Module, key_conv: nn.Module, value_conv: nn.Module, gamma: Tensor, pool: int = 1
    ) -> None:
        self.x, self.gamma, self.pool = x, gamma, pool
        self._query_conv, self._key_conv, self._value_conv = query_conv, key_conv, value_conv

    def query(self) -> Tensor:
        """(B, E, N), N = H * W."""
        return self._query_conv(self.x).flatten(2)  # type: ignore[no-any-return]

    def key(self) -> Tensor:
        """(B, E, M); M = N, or the number of pooled positions."""
        return self._pooled(self._key_conv(self.x)).flatten(2)

    def value(self) -> Tensor:
        """(B, C, M)."""
        return self._pooled(self._value_conv(self.x)).flatten(2)

    def residual(self, attended: Tensor) -> Tensor:
        """`gamma * attended + x` in one kernel and in the layout of x; (B, C, N) -> (B, C, H, W)."""
        return torch.addcmul(self.x, self.gamma, attended.view(self.x.shape))

    def _pooled(self, maps: Tensor) -> Tensor:
        # ceil_mode: at an odd size the last row and column pool what is left instead of being lost.
        return F.max_pool2d(maps, self.pool, ceil_mode=True) if self.pool > 1 else maps
