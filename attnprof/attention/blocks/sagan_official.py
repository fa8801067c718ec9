"""The block of SAGAN's own code, which is not the one that its paper's formula says."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnprof.attention.blocks.base import AttentionBlock
from attnprof.attention.projections import chain
from attnprof.attention.strategy import Strategy


class SaganOfficialAttention2d(AttentionBlock):
    """Self-attention with keys and values from a map of half the height and width.

        out = gamma * o(pool(g(x)) softmax(theta(x)^T pool(phi(x)))^T) + x

    with 1x1 convolutions without bias: theta and phi to C / reduction channels, g to C / 2, o back to C;
    pool is max-pooling 2x2, which leaves out an odd last row or column. As in
    brain-research/self-attention-gan, non_local.py; parameter names are those of BigGAN's block in
    PyTorch (ajbrock/BigGAN-PyTorch, layers.py). Spectral norm, which both put on the convolutions, is
    yours to add.

    Args:
        in_channels: C, even.
        strategy: how it is computed; `pooled` pools keys and values further.
        reduction: C / (channels of theta and phi); 8 in the paper.

    Raises:
        StrategyError: an unknown or impossible strategy.
        ValueError: `in_channels` is not divisible by `reduction` and 2.
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
        return [self.gamma]

    def _attend(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        return self._compute(
            x,
            self.theta,
            chain(self.phi, self.pool),
            chain(self.g, self.pool),
            output=self.o,
            gamma=self.gamma,
            value_channels=self.in_channels // 2,
        )
