"""The base class of all attention blocks: it checks the input, and computes the block by its strategy."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from attnprof.attention.checkpoint_and_autocast import AttentionOutput, run_attention
from attnprof.attention.projections import BlockParts, Projections
from attnprof.attention.strategy import COMPONENTS, Strategy, StrategyError, parse_strategy

_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


class AttentionBlock(nn.Module, ABC):
    """A block that attends over all positions of a feature map, computed by the strategy of your choice.

    A subclass makes its parameters, then calls `_cast_parameters`, and defines in `_attend` what it computes.

    With `fp16` or `bf16`, the parameters are in that dtype, the input is cast to it, and the output is returned in the
    dtype of the input.

    Args:
        in_channels: C.
        strategy: how the block is computed.
        reduction: C / E.
        value_reduction: C / D, D the channels of value.

    Attributes:
        in_channels: C.
        reduction: C / E, E the channels of query and key.
        strategy: how the block is computed; see `attnprof.attention.COMPONENTS`.

    Raises:
        StrategyError: the strategy is unknown or impossible.
        ValueError: C is not divisible by one of the two reductions.
    """

    def __init__(self, in_channels: int, strategy: str | Strategy, reduction: int, value_reduction: int = 1) -> None:
        super().__init__()
        if reduction < 1 or in_channels < 1 or in_channels % reduction:
            raise ValueError(
                f"in_channels={in_channels} is not divisible by reduction={reduction}: "
                f"pass a `reduction` that divides it"
            )
        if in_channels % value_reduction:
            raise ValueError(f"in_channels={in_channels} is not divisible by {value_reduction}")
        self.in_channels, self.reduction = in_channels, reduction
        self.strategy = parse_strategy(strategy) if isinstance(strategy, str) else strategy
        self._implementation = self.strategy.implementation()

    @abstractmethod
    def residual_weights(self) -> list[nn.Parameter]:
        """Return the parameters that scale the attention term. They start at zero, so a new block is the identity."""

    @abstractmethod
    def _attend(self, x: Tensor) -> AttentionOutput:
        """Compute the output, and the attention map (B, N, M) if the strategy has one, else None."""

    def forward(self, x: Tensor, return_attention: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Attend over all positions of a map.

        Args:
            x: (B, C, H, W), any H and W.
            return_attention: whether to return the attention map too; not every strategy has one.

        Returns:
            The output (B, C, H, W), or a pair of it and the attention map (B, N, M) with N = H * W queries and M keys.

        Raises:
            ValueError: x is not (B, in_channels, H, W), or its dtype is not that of the parameters; or the strategy has
                no attention map.
        """
        if x.dim() != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"expected an input of shape (B, {self.in_channels}, H, W), got {tuple(x.shape)}")
        if x.dtype != self._dtype and not (self.strategy.precision_name or torch.is_autocast_enabled(x.device.type)):
            raise ValueError(
                f"expected an input in the dtype of the parameters, {self._dtype}, got {x.dtype}: cast one of them"
            )
        if return_attention and not self.strategy.has_map:
            with_map = " or ".join(component.name for component in COMPONENTS if component.has_map)
            raise ValueError(f"strategy {str(self.strategy)!r} never forms the attention map: use {with_map} for it")
        out, attention = run_attention(self.strategy, self._attend_in_dtype, x)
        if not return_attention:
            return out
        assert attention is not None
        return out, attention

    def use(self, strategy: str | Strategy) -> None:
        """Compute the block by another strategy from now on, with the parameters as they are.

        Args:
            strategy: a spelling such as `"online:512x2048"`, or a parsed strategy.

        Raises:
            StrategyError: the strategy is unknown or impossible; or the old or the new one keeps its parameters in half
                precision.
        """
        parsed = parse_strategy(strategy) if isinstance(strategy, str) else strategy
        for held in (self.strategy, parsed):
            if held.precision_name in _DTYPES:
                raise StrategyError(
                    f"strategy {str(held)!r} keeps its parameters in {held.precision_name}, and those of a block stay "
                    f"as they are: use +amp, or build a new block"
                )
        self.strategy, self._implementation = parsed, parsed.implementation()

    def _attend_in_dtype(self, x: Tensor) -> AttentionOutput:
        return self._attend(x.to(self._dtype) if self.strategy.precision_name in _DTYPES else x)

    def _compute(self, x: Tensor, parts: BlockParts) -> AttentionOutput:
        """Compute the attention of these parts by the block's strategy."""
        found: AttentionOutput = self._implementation(
            Projections(x, parts, self.strategy.pool), *self.strategy.attention.sizes
        )
        return found

    def _cast_parameters(self) -> None:
        """Cast the parameters to the strategy's precision; a subclass calls it when it has made them all."""
        if self.strategy.precision_name in _DTYPES:
            self.to(_DTYPES[self.strategy.precision_name])

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    def extra_repr(self) -> str:
        """Return the arguments that the block was made with."""
        return f"{self.in_channels}, strategy={str(self.strategy)!r}, reduction={self.reduction}"
