"""Attention through sums over all positions: other functions than the plain block's, in memory of N.

What a position gets of the others goes through E sums over the map, or through one. They work with any keys, pooled
or not.
"""

from __future__ import annotations

import torch
from torch import Tensor

from attnprof.attention.projections import Projections


def linear(p: Projections) -> tuple[Tensor, None]:
    """Efficient attention (Shen et al. 2018, arXiv:1812.01243, section 3.2, with its softmax normalization).

        attended = value softmax_positions(key)^T softmax_channels(query)

    with key and value multiplied first: E x D numbers instead of N x M weights.

    Returns:
        The block's output (B, C, H, W); there is no attention map.
    """
    context = p.weighted_value(torch.softmax(p.key(), dim=2))  # (B, E, D)
    return p.residual(torch.bmm(context.mT, torch.softmax(p.query(), dim=1))), None


def global_context(p: Projections) -> tuple[Tensor, None]:
    """One attention for all positions, after GCNet's simplified non-local block (Cao et al. 2019, arXiv:1904.11492).

        out = gamma * output(value softmax(key^T q)) + x, the same term at each position

    GCNet scores a position by weights W_k of its own, which the plain block does not have. Here the one query q
    is the mean of the block's queries, so that the block's weights are enough; it is not GCNet's function.

    Returns:
        The block's output (B, C, H, W); there is no attention map.
    """
    query = p.query().mean(2, keepdim=True)  # (B, E, 1)
    # As sums and not as a batched product, for the reason that `weighted_value` has where there is one row.
    weights = torch.softmax((query * p.key()).sum(1, keepdim=True), dim=2)  # (B, 1, M)
    return p.residual_of_one(p.weighted_value(weights)), None
