"""torch's scaled_dot_product_attention: as one would write it, and laid out so that it pays.

SAGAN's query and key have E = C / 8 channels and its value has D = C. PyTorch's flash kernels want
equal head dims, and every fused kernel wants the last dim contiguous (ATen
native/transformers/sdp_utils_cpp.h, native/transformers/cuda/sdp_utils.cpp); otherwise the math
kernel runs, silently, and the N x N weights are back. None of the blocks has the 1 / sqrt(E): `scale=1`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from attnprof.attention.projections import Projections

_ALIGNMENT = 8  # flash and memory-efficient kernels take head dims that divide by this in any dtype
_MAX_HEAD_DIM = 256  # flash: native/transformers/cuda/sdp_utils.cpp, check_head_dim_size_flash


def sdpa(p: Projections) -> tuple[Tensor, None]:
    """The call a user writes on conv outputs: permuted views as they come, one head.

    Returns:
        The block's output (B, C, H, W); there is no attention map.
    """
    query = p.query(as_written=True).transpose(1, 2).unsqueeze(1)  # (B, 1, N, E)
    key = p.key(as_written=True).transpose(1, 2).unsqueeze(1)  # (B, 1, M, E)
    value = p.value(as_written=True).transpose(1, 2).unsqueeze(1)  # (B, 1, M, D)
    out = F.scaled_dot_product_attention(query, key, value, scale=1.0)  # (B, 1, N, D)
    return p.residual(out.squeeze(1).transpose(1, 2).contiguous()), None


def sdpa_pad(p: Projections) -> tuple[Tensor, None]:
    """Query and key zero-padded to the value dim: zeros add nothing to a score, so it is exact.

    Value dims beyond a kernel's limit become as few equal heads as fit it. Where no flash kernel
    takes the dtype (float32 on CUDA) the memory-efficient kernel runs, which takes unequal dims:
    there the padding stops at its alignment.

    Returns:
        The block's output (B, C, H, W); there is no attention map.
    """
    x = p.x
    heads = -(-p.value_channels // _MAX_HEAD_DIM)
    value_dim = _aligned(-(-p.value_channels // heads))
    flash = x.device.type == "cpu" or _compute_dtype(x) in (torch.float16, torch.bfloat16)
    query_dim = max(value_dim, _aligned(p.reduced)) if flash else _aligned(p.reduced)
    return p.residual_of_rows(_attend(p, query_dim, value_dim)), None


def sdpa_split(p: Projections) -> tuple[Tensor, None]:
    """The value's columns as D / E heads that share one query and key: each output column needs
    only its own value column, so it is exact.

    Returns:
        The block's output (B, C, H, W); there is no attention map.
    """
    dim = _aligned(p.reduced)
    return p.residual_of_rows(_attend(p, dim, dim)), None


def _attend(p: Projections, query_dim: int, value_dim: int) -> Tensor:
    """Attention with the value split into heads of `value_dim` columns; (B, N, D).

    All is projected into rows at once, and the fused kernels leave rows, so that nothing of the size of a
    map exists twice.
    """
    heads = -(-p.value_channels // value_dim)
    query, key = (
        rows.unsqueeze(1).expand(-1, heads, -1, -1) for rows in (p.query_rows(query_dim), p.key_rows(query_dim))
    )
    value = p.value_rows(heads * value_dim)
    value = value.view(*value.shape[:2], heads, value_dim).transpose(1, 2)  # (B, heads, M, value_dim)
    out = F.scaled_dot_product_attention(query, key, value, scale=1.0)  # (B, heads, N, value_dim)
    return out.transpose(1, 2).flatten(2)[:, :, : p.value_channels]


def _compute_dtype(x: Tensor) -> torch.dtype:
    """Of the products: that of x, or autocast's."""
    autocast = torch.is_autocast_enabled(x.device.type)
    return torch.get_autocast_dtype(x.device.type) if autocast else x.dtype


def _aligned(dim: int) -> int:
    return -(-dim // _ALIGNMENT) * _ALIGNMENT
