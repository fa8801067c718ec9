"""The plain two-matrix form: the reference for all other strategies, and what most users have today."""

# Registered in strategy.COMPONENTS as "naive:naive".

from __future__ import annotations

import torch
from torch import Tensor

from attnprof.attention.projections import Projections


def naive(p: Projections) -> tuple[Tensor, Tensor]:
    """Compute softmax(query^T key) over all keys for all queries at once.

    It is written line by line as the widespread blocks write it, in one function: `scores` and `attention` both live
    until it returns, so its peak is that of a user's own block.

    Args:
        p: the block's projections of its input.

    Returns:
        The block's output (B, C, H, W) and the attention map (B, N, M), rows summing to 1.
    """
    query = p.query(as_written=True).transpose(1, 2)  # (B, N, E)
    key = p.key(as_written=True)  # (B, E, M)
    scores = torch.bmm(query, key)  # (B, N, M)
    attention = torch.softmax(scores, dim=-1)
    value = p.value(as_written=True)  # (B, D, M)
    out = torch.bmm(value, attention.transpose(1, 2))  # (B, D, N)
    return p.residual(out, as_written=True), attention
