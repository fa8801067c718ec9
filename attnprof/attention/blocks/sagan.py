"""SAGAN's block as everyone writes it."""

# Registered in blocks.catalogue.BLOCKS as "sagan:SelfAttention2d".

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnprof.attention.blocks.base import AttentionBlock
from attnprof.attention.checkpoint_and_autocast import AttentionOutput
from attnprof.attention.projections import BlockParts
from attnprof.attention.strategy import Strategy


class SelfAttention2d(AttentionBlock):
    """The self-attention of SAGAN over all positions of a feature map (Zhang et al. 2018, arXiv:1805.08318).

        out = gamma * value(x) softmax(query(x)^T key(x))^T + x

    Query and key are 1x1 convolutions to C / reduction channels, and value is one to C channels. The names and shapes
    of the parameters are those of the well-known block (`query_conv`, `key_conv`, `value_conv`, `gamma`), so a
    `state_dict` saved from it loads unchanged into every strategy, and back. The block is DANet's position attention
    too.

    A map of one position can attend only to itself: the softmax is 1 and the block is `gamma * value_conv(x) + x`.

    With `fp16` or `bf16`, the parameters are in that dtype, the input is cast to it, and the output is returned in the
    dtype of the input.

    Args:
        in_channels: C.
        strategy: how the block is computed; see `attnprof.attention.COMPONENTS`. Parts compose with `+`, as in
            `"pooled:2+sdpa-pad+fp16"`.
        reduction: C / (channels of query and key); 8 in the paper.

    Raises:
        StrategyError: the strategy is unknown or impossible.
        ValueError: `in_channels` is not divisible by `reduction`.
    """

    def __init__(self, in_channels: int, strategy: str | Strategy = "chunked", *, reduction: int = 8) -> None:
        super().__init__(in_channels, strategy, reduction)
        self.query_conv = nn.Conv2d(in_channels, in_channels // reduction, kernel_size=1)
        self.key_conv = nn.Conv2d(in_channels, in_channels // reduction, kernel_size=1)
        self.value_conv = nn.Conv2d(in_channels, in_channels, kernel_size=1)
        self.gamma = nn.Parameter(torch.zeros(1))
        self._cast_parameters()

    def residual_weights(self) -> list[nn.Parameter]:
        """Return gamma."""
        return [self.gamma]

    def _attend(self, x: Tensor) -> AttentionOutput:
        parts = BlockParts(
            self.query_conv,
            self.key_conv,
            self.value_conv,
            gamma=self.gamma,
            reduced=self.in_channels // self.reduction,
            value_channels=self.in_channels,
        )
        return self._compute(x, parts)
