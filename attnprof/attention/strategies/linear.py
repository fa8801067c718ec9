"""Attention through sums over all positions, in memory that grows with N. Not the plain block's function.

What a position receives from the others passes through E sums over the map, or through one sum. Both strategies work
with pooled keys too.
"""

# Registered in strategy.COMPONENTS as "linear:linear" and "linear:global_context".

from __future__ import annotations

import torch
from torch import Tensor

from attnprof.attention.projections import Projections


def linear(p: Projections) -> tuple[Tensor, None]:
    """Compute efficient attention (Shen et al. 2018, arXiv:1812.01243, section 3.2, with softmax normalization).

        attended = value softmax_positions(key)^T softmax_channels(query)

    Key and value are multiplied first, which takes E x D numbers instead of N x M weights.

    Args:
        p: the block's projections of its input.

    Returns:
        The block's output (B, C, H, W), and None: there is no attention map.
    """
    context = p.weighted_value(torch.softmax(p.key(), dim=2))  # (B, E, D)
    return p.residual(torch.bmm(context.mT, torch.softmax(p.query(), dim=1))), None


def global_context(p: Projections) -> tuple[Tensor, None]:
    """Compute one attention for all positions, after GCNet's simplified non-local block.

        out = gamma * output(value softmax(key^T q)) + x, with the same attention term at each position

    (Cao et al. 2019, arXiv:1904.11492.) GCNet scores a position by weights W_k of its own, which the plain block does
    not have. Here the one query q is the mean of the block's queries, so that the block's weights are enough. It is not
    GCNet's function.

    Args:
        p: the block's projections of its input.

    Returns:
        The block's output (B, C, H, W), and None: there is no attention map.
    """
    query = p.query().mean(2, keepdim=True)  # (B, E, 1)
    # A sum and not a batched product, for the reason that is given in projections._weighted_sums.
    weights = torch.softmax((query * p.key()).sum(1, keepdim=True), dim=2)  # (B, 1, M)
    return p.residual_of_one(p.weighted_value(weights)), None
