"""DANet's two attentions: over positions, and over channels."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from attnprof.attention.blocks.base import AttentionBlock
from attnprof.attention.blocks.sagan import SelfAttention2d
from attnprof.attention.strategy import Strategy


class ChannelAttention2d(nn.Module):
    """Attention over channels (Fu et al. 2018, arXiv:1809.02983, section 3.3): C x C weights, none of N x N.

        S = X X^T, X the input as (C, N)
        out = gamma * softmax(max(S) - S) X + x

    with the largest entry of each row, as the authors' code has it (junfu1115/DANet, encoding/nn/da_att.py).
    """

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        flat = x.flatten(2)  # (B, C, N)
        energy = torch.bmm(flat, flat.transpose(1, 2))  # (B, C, C)
        attention = torch.softmax(energy.amax(-1, keepdim=True) - energy, dim=-1)
        out = torch.bmm(attention, flat)  # (B, C, N)
        return self.gamma * out.view(x.shape) + x


class DualAttention2d(AttentionBlock):
    """Position and channel attention of the same map, summed (Fu et al. 2018, arXiv:1809.02983, figure 2).

        out = position(x) + channel(x)

    without the 3x3 convolutions that DANet's head has around each. The strategy is the position
    attention's; channel attention has nothing of size N x N.

    Args:
        in_channels: C.
        strategy: how position attention is computed.
        reduction: C / (channels of query and key); 8 in the paper.

    Raises:
        StrategyError: an unknown or impossible strategy.
        ValueError: `in_channels` is not divisible by `reduction`.
    """

    def __init__(self, in_channels: int, strategy: str | Strategy = "chunked", *, reduction: int = 8) -> None:
        super().__init__(in_channels, strategy, reduction)
        self.position = SelfAttention2d(in_channels, _position_strategy(self.strategy), reduction=reduction)
        self.channel = ChannelAttention2d()
        self._cast_parameters()

    def use(self, strategy: str | Strategy) -> None:
        super().use(strategy)
        self.position.use(_position_strategy(self.strategy))

    def residual_weights(self) -> list[nn.Parameter]:
        return [self.position.gamma, self.channel.gamma]

    def _attend(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        if self.strategy.has_map:
            position, attention = self.position(x, return_attention=True)
        else:
            position, attention = self.position(x), None
        return position + self.channel(x), attention


def _position_strategy(strategy: Strategy) -> Strategy:
    """Checkpoint and precision are of the whole block."""
    return dataclasses.replace(strategy, wrapper=None, precision=None)
