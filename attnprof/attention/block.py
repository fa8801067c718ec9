"""The SAGAN self-attention block as a drop-in module, computed by the strategy of your choice."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from attnprof.attention.projections import Projections
from attnprof.attention.registry import COMPONENTS, Strategy, parse_strategy

_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


class SelfAttention2d(nn.Module):
    """Self-attention over all positions of a feature map (Zhang et al. 2018, arXiv:1805.08318).

        out = gamma * value(x) softmax(query(x)^T key(x))^T + x

    with 1x1 convolutions to C / reduction (query, key) and C (value) channels. Parameter names and
    shapes are those of the well-known block (`query_conv`, `key_conv`, `value_conv`, `gamma`), so a
    `state_dict` saved from it loads unchanged into every strategy, and back.

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
        super().__init__()
        self.strategy = parse_strategy(strategy) if isinstance(strategy, str) else strategy
        if reduction < 1 or in_channels < 1 or in_channels % reduction:
            raise ValueError(
                f"in_channels={in_channels} is not divisible by reduction={reduction}: "
                f"pass a `reduction` that divides it"
            )
        self.in_channels, self.reduction = in_channels, reduction
        self.query_conv = nn.Conv2d(in_channels, in_channels // reduction, kernel_size=1)
        self.key_conv = nn.Conv2d(in_channels, in_channels // reduction, kernel_size=1)
        self.value_conv = nn.Conv2d(in_channels, in_channels, kernel_size=1)
        self.gamma = nn.Parameter(torch.zeros(1))
        self._implementation = self.strategy.implementation()
        if self.strategy.precision_name in _DTYPES:
            self.to(_DTYPES[self.strategy.precision_name])

    def forward(self, x: Tensor, return_attention: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Attend.

        Args:
            x: (B, C, H, W), any H and W.
            return_attention: return the attention map too, (B, N, M) with N = H * W queries and M
                keys, where the strategy has one.

        Returns:
            (B, C, H, W), or a pair of that and the attention map.

        Raises:
            ValueError: x is not (B, in_channels, H, W), or of another dtype than the parameters; or the strategy
                has no attention map.
        """
        if x.dim() != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"expected an input of shape (B, {self.in_channels}, H, W), got {tuple(x.shape)}")
        if x.dtype != self.gamma.dtype and not (
            self.strategy.precision_name or torch.is_autocast_enabled(x.device.type)
        ):
            raise ValueError(
                f"expected an input in the dtype of the parameters, {self.gamma.dtype}, got {x.dtype}: cast one of them"
            )
        if return_attention and not self.strategy.has_map:
            with_map = " or ".join(component.name for component in COMPONENTS if component.has_map)
            raise ValueError(f"strategy {str(self.strategy)!r} never forms the attention map: use {with_map} for it")
        out: Tensor
        attention: Tensor | None
        if self.strategy.checkpoint and torch.is_grad_enabled():
            out, attention = checkpoint(self._attend, x, use_reentrant=False)
        else:
            out, attention = self._attend(x)
        if not return_attention:
            return out
        assert attention is not None
        return out, attention

    def _attend(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        inner = x.to(self.gamma.dtype) if self.strategy.precision_name in _DTYPES else x
        with self._autocast(x.device.type):
            out, attention = self._implementation(
                Projections(
                    inner,
                    self.query_conv,
                    self.key_conv,
                    self.value_conv,
                    self.gamma,
                    reduced=self.in_channels // self.reduction,
                    pool=self.strategy.pool,
                ),
                *self.strategy.attention.sizes,
            )
        return out.to(x.dtype), attention

    def _autocast(self, device_type: str) -> AbstractContextManager[object]:
        if self.strategy.precision_name != "amp":
            return nullcontext()
        return torch.autocast(device_type)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, strategy={str(self.strategy)!r}, reduction={self.reduction}"
