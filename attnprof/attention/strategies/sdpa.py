"""Attention by torch's scaled_dot_product_attention: as a user would write it, and laid out for its fused kernels.

SAGAN's query and key have E = C / 8 channels and its value has D = C. PyTorch's flash kernels need equal head dims, and
every fused kernel needs a contiguous last dim (ATen native/transformers/sdp_utils_cpp.h,
native/transformers/cuda/sdp_utils.cpp). Otherwise the math kernel runs, without a warning, and the N x N weights are
back. None of the blocks divides its scores by sqrt(E), hence `scale=1`.
"""

# Registered in strategy.COMPONENTS as "sdpa:sdpa", "sdpa:sdpa_pad" and "sdpa:sdpa_split".

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from attnprof.attention.projections import Projections

_ALIGNMENT = 8  # flash and memory-efficient kernels accept head dims that are multiples of this in any dtype
_MAX_HEAD_DIM = 256  # flash: native/transformers/cuda/sdp_utils.cpp, check_head_dim_size_flash


def sdpa(p: Projections) -> tuple[Tensor, None]:
    """Call scaled_dot_product_attention on the outputs of the convolutions as they are: permuted views, one head.

    Args:
        p: the block's projections of its input.

    Returns:
        The block's output (B, C, H, W), and None: there is no attention map.
    """
    query = p.query(as_written=True).transpose(1, 2).unsqueeze(1)  # (B, 1, N, E)
    key = p.key(as_written=True).transpose(1, 2).unsqueeze(1)  # (B, 1, M, E)
    value = p.value(as_written=True).transpose(1, 2).unsqueeze(1)  # (B, 1, M, D)
    out = F.scaled_dot_product_attention(query, key, value, scale=1.0)  # (B, 1, N, D)
    return p.residual(out.squeeze(1).transpose(1, 2).contiguous()), None


def sdpa_pad(p: Projections) -> tuple[Tensor, None]:
    """Call it with query and key zero-padded to the value dim: zeros add nothing to a score, so it is exact.

    A value dim beyond a kernel's limit is split into as few equal heads as fit it. If no flash kernel accepts the dtype
    (float32 on CUDA), the memory-efficient kernel runs. It accepts unequal dims, so the padding stops at its alignment.

    Args:
        p: the block's projections of its input.

    Returns:
        The block's output (B, C, H, W), and None: there is no attention map.
    """
    x = p.x
    heads = -(-p.parts.value_channels // _MAX_HEAD_DIM)
    value_dim = _aligned(-(-p.parts.value_channels // heads))
    flash = x.device.type == "cpu" or _compute_dtype(x) in (torch.float16, torch.bfloat16)
    query_dim = max(value_dim, _aligned(p.parts.reduced)) if flash else _aligned(p.parts.reduced)
    return p.residual_of_rows(_attend(p, query_dim, value_dim)), None


def sdpa_split(p: Projections) -> tuple[Tensor, None]:
    """Call it with the value's columns split into D / E heads that share one query and key.

    Each output column needs only its own value column, so it is exact.

    Args:
        p: the block's projections of its input.

    Returns:
        The block's output (B, C, H, W), and None: there is no attention map.
    """
    dim = _aligned(p.parts.reduced)
    return p.residual_of_rows(_attend(p, dim, dim)), None


def _attend(p: Projections, query_dim: int, value_dim: int) -> Tensor:
    """Compute attention with the value split into heads of `value_dim` columns, (B, N, D).

    The projections are made in rows, and the fused kernels return rows, so nothing of the size of a map exists twice.
    """
    heads = -(-p.parts.value_channels // value_dim)
    query, key = (
        rows.unsqueeze(1).expand(-1, heads, -1, -1) for rows in (p.query_rows(query_dim), p.key_rows(query_dim))
    )
    value = p.value_rows(heads * value_dim)
    value = value.view(*value.shape[:2], heads, value_dim).transpose(1, 2)  # (B, heads, M, value_dim)
    out = F.scaled_dot_product_attention(query, key, value, scale=1.0)  # (B, heads, N, value_dim)
    return out.transpose(1, 2).flatten(2)[:, :, : p.parts.value_channels]


def _compute_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype of matrix products: autocast's if it is on, else that of x."""
    autocast = torch.is_autocast_enabled(x.device.type)
    return torch.get_autocast_dtype(x.device.type) if autocast else x.dtype


def _aligned(dim: int) -> int:
    return -(-dim // _ALIGNMENT) * _ALIGNMENT
