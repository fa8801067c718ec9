"""SAGAN's block as everyone writes it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnprof.attention.blocks.base import AttentionBlock
from attnprof.attention.strategy import Strategy


class SelfAttention2d(AttentionBlock):
    """Self-attention over all positions of a feature map (Zhang et al. 2018, arXiv:1805.08318).

        out = gamma * value(x) softmax(query(x)^T key(x))^T + x

    with 1x1 convolutions to C / reduction (query, key) and C (value) channels. Parameter names and
    shapes are those of the well-known block (`query_conv`, `key_conv`, `value_conv`, `gamma`), so a
    `state_dict` saved from it loads unchanged into every strategy, and back. It is DANet's position
    attention too.

    A map of one position has nothing to attend to but itself: the softmax is 1 and the block is
    `gamma * value_conv(x) + x`.

    Args:
        in_channels: C.
        strategy: how it is computed; see `attnprof.attention.COMPONENTS`. Parts compose with `+`:
            `"pooled:2+sdpa-pad+fp16"`.
        reduction: C / (channels of query and key); 8 in the paper.

    With `fp16` or `bf16` the parameters are in that dtype, the input is cast to it, and the output
    comes back in the dtype of the input.

    Raises:
        StrategyError: an unknown or impossible strategy.
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
        return [self.gamma]

    def _attend(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        return self._compute(
            x, self.query_conv, self.key_conv, self.value_conv, gamma=self.gamma, value_channels=self.in_channels
        )
