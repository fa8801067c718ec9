"""DANet's two attentions: over positions and over channels."""

# Registered in blocks.catalogue.BLOCKS as "danet:DualAttention2d".

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from attnprof.attention.blocks.base import AttentionBlock
from attnprof.attention.blocks.sagan import SelfAttention2d
from attnprof.attention.checkpoint_and_autocast import AttentionOutput
from attnprof.attention.strategy import Strategy


class ChannelAttention2d(nn.Module):
    """The channel attention of DANet (Fu et al. 2018, arXiv:1809.02983, section 3.3): C x C weights, none of N x N.

        S = X X^T, with X the input as (C, N)
        out = gamma * softmax(max(S) - S) X + x

    The maximum is over each row of S, as in the authors' code (junfu1115/DANet, encoding/nn/da_att.py).
    """

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Attend over the channels of a map, (B, C, H, W) -> (B, C, H, W)."""
        flat = x.flatten(2)  # (B, C, N)
        energy = torch.bmm(flat, flat.transpose(1, 2))  # (B, C, C)
        attention = torch.softmax(energy.amax(-1, keepdim=True) - energy, dim=-1)
        out = torch.bmm(attention, flat)  # (B, C, N)
        return self.gamma * out.view(x.shape) + x


class DualAttention2d(AttentionBlock):
    """The sum of position attention and channel attention (Fu et al. 2018, arXiv:1809.02983, figure 2).

        out = position(x) + channel(x)

    The 3x3 convolutions that DANet's head has around each are not part of it. The strategy applies to position
    attention only, since channel attention has nothing of size N x N.

    Args:
        in_channels: C.
        strategy: how the block is computed; see `attnprof.attention.COMPONENTS`.
        reduction: C / (channels of query and key); 8 in the paper.

    Raises:
        StrategyError: the strategy is unknown or impossible.
        ValueError: `in_channels` is not divisible by `reduction`.
    """

    def __init__(self, in_channels: int, strategy: str | Strategy = "chunked", *, reduction: int = 8) -> None:
        super().__init__(in_channels, strategy, reduction)
        self.position = SelfAttention2d(in_channels, _position_strategy(self.strategy), reduction=reduction)
        self.channel = ChannelAttention2d()
        self._cast_parameters()

    def use(self, strategy: str | Strategy) -> None:
        """Compute position attention by another strategy from now on, with the parameters as they are.

        Args:
            strategy: a spelling, or a parsed strategy.

        Raises:
            StrategyError: the strategy is unknown or impossible; or the old or the new one keeps its parameters in half
                precision.
        """
        super().use(strategy)
        self.position.use(_position_strategy(self.strategy))

    def residual_weights(self) -> list[nn.Parameter]:
        """Return the gammas of both attentions."""
        return [self.position.gamma, self.channel.gamma]

    def _attend(self, x: Tensor) -> AttentionOutput:
        if self.strategy.has_map:
            position, attention = self.position(x, return_attention=True)
        else:
            position, attention = self.position(x), None
        return position + self.channel(x), attention


def _position_strategy(strategy: Strategy) -> Strategy:
    """Return the strategy without checkpoint and precision, which apply to the block as a whole."""
    return dataclasses.replace(strategy, wrapper=None, precision=None)
