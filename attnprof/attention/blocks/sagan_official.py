"""The block of SAGAN's own code, which differs from the formula in its paper."""

# Registered in blocks.catalogue.BLOCKS as "sagan_official:SaganOfficialAttention2d".

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnprof.attention.blocks.base import AttentionBlock
from attnprof.attention.checkpoint_and_autocast import AttentionOutput
from attnprof.attention.projections import BlockParts, chain
from attnprof.attention.strategy import Strategy


class SaganOfficialAttention2d(AttentionBlock):
    """The block of SAGAN's own code: keys and values come from a map of half the height and width.

        out = gamma * o(pool(g(x)) softmax(theta(x)^T pool(phi(x)))^T) + x

    The 1x1 convolutions have no bias: theta and phi go to C / reduction channels, g to C / 2, and o back to C. The pool
    is 2x2 max-pooling, which leaves out an odd last row or column. This is the block of
    brain-research/self-attention-gan, non_local.py. The names of the parameters are those of BigGAN's block in PyTorch
    (ajbrock/BigGAN-PyTorch, layers.py). Both put spectral norm on the convolutions; add it yourself if you need it.

    Args:
        in_channels: C, an even number.
        strategy: how the block is computed; see `attnprof.attention.COMPONENTS`. `pooled` pools keys and
            values further.
        reduction: C / (channels of theta and phi); 8 in the paper.

    Raises:
        StrategyError: the strategy is unknown or impossible.
        ValueError: `in_channels` is not divisible by `reduction` and by 2.
    """

    def __init__(self, in_channels: int, strategy: str | Strategy = "chunked", *, reduction: int = 8) -> None:
        super().__init__(in_channels, strategy, reduction, value_reduction=2)
        reduced, value_channels = in_channels // reduction, in_channels // 2
        self.theta = nn.Conv2d(in_channels, reduced, kernel_size=1, bias=False)
        self.phi = nn.Conv2d(in_channels, reduced, kernel_size=1, bias=False)
        self.g = nn.Conv2d(in_channels, value_channels, kernel_size=1, bias=False)
        self.o = nn.Conv2d(value_channels, in_channels, kernel_size=1, bias=False)
        self.pool = nn.MaxPool2d(2)
        self.gamma = nn.Parameter(torch.zeros(()))
        self._cast_parameters()

    def residual_weights(self) -> list[nn.Parameter]:
        """Return gamma."""
        return [self.gamma]

    def _attend(self, x: Tensor) -> AttentionOutput:
        parts = BlockParts(
            self.theta,
            chain(self.phi, self.pool),
            chain(self.g, self.pool),
            gamma=self.gamma,
            reduced=self.in_channels // self.reduction,
            value_channels=self.in_channels // 2,
            output=self.o,
        )
        return self._compute(x, parts)
