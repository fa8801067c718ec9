"""Around a block's computation: what a strategy says of when it runs and under which autocast."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from attnprof.attention.strategy import Strategy

AttentionOutput = tuple[Tensor, Tensor | None]
"""A block's output (B, C, H, W), and its attention map (B, N, M) where the strategy has one."""


def run_attention(strategy: Strategy, attend: Callable[[Tensor], AttentionOutput], x: Tensor) -> AttentionOutput:
    """`attend(x)`, checkpointed or under autocast as the strategy has it; the output in the dtype of x."""

    def attend_in_precision(x: Tensor) -> AttentionOutput:
        with torch.autocast(x.device.type) if strategy.precision_name == "amp" else nullcontext():
            out, attention = attend(x)
        return out.to(x.dtype), attention

    if strategy.checkpoint and torch.is_grad_enabled():
        found: AttentionOutput = checkpoint(attend_in_precision, x, use_reentrant=False)
        return found
    return attend_in_precision(x)
