"""Checkpointing and autocast around a block's computation, as its strategy asks for them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from attnprof.attention.strategy import Strategy

AttentionOutput = tuple[Tensor, Tensor | None]
"""A block's output (B, C, H, W), and its attention map (B, N, M) if the strategy has one, else None."""


def run_attention(strategy: Strategy, attend: Callable[[Tensor], AttentionOutput], x: Tensor) -> AttentionOutput:
    """Run a block's computation, checkpointed or under autocast if its strategy contains that.

    Args:
        strategy: decides on checkpoint and autocast.
        attend: computes output and attention map.
        x: the block's input, (B, C, H, W).

    Returns:
        The output in the dtype of x, and the attention map or None.
    """

    def attend_in_precision(x: Tensor) -> AttentionOutput:
        with torch.autocast(x.device.type) if strategy.precision_name == "amp" else nullcontext():
            out, attention = attend(x)
        return out.to(x.dtype), attention

    if strategy.checkpoint and torch.is_grad_enabled():
        found: AttentionOutput = checkpoint(attend_in_precision, x, use_reentrant=False)
        return found
    return attend_in_precision(x)
