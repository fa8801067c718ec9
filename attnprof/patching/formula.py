"""The formula of a user's block: what it computes, in terms of its own parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnprof.attention.checkpoint_and_autocast import AttentionOutput, run_attention
from attnprof.attention.projections import BlockParts, Projection, Projections, chain
from attnprof.attention.strategy import Strategy

_FUNCTIONS: dict[str, Projection] = {"max_pool2d(2)": partial(F.max_pool2d, kernel_size=2)}


@dataclass(frozen=True)
class Link:
    """An operation that is applied to a map.

    Attributes:
        path: the path of a module, seen from the block (`phi.0`); or of a parameter of C elements, which multiplies
            the map's channels; or one of the functions that blocks call, `max_pool2d(2)`.
        flat: whether it works on the flattened map, (B, C, N), as a Conv1d does.
    """

    path: str
    flat: bool = False

    def find_in(self, block: nn.Module) -> Projection:
        """Return the operation, with the parameters of this block.

        It is the module itself if that takes a map, so that strategies can recognise a plain convolution.
        """
        if self.path in _FUNCTIONS:
            return _FUNCTIONS[self.path]
        # get_submodule would fail on the replicas of DataParallel, which do not register their parts.
        part: nn.Module | Tensor = attrgetter(self.path)(block)
        if isinstance(part, Tensor):
            return partial(torch.mul, part.reshape(-1, 1, 1))
        return _FlatMapProjection(part) if self.flat else part


@dataclass(frozen=True)
class Formula:
    """A block's parts by their places in what it computes.

        out = weight * output(value(x') softmax(scale * query(x')^T key(x'))^T) + x,    x' = before(x)

    It holds paths and no modules, so that it applies to copies of the block too.

    Attributes:
        in_channels: C.
        reduced: E, the channels of query and key.
        value_channels: D.
        query: the operations that make the query, in order.
        key: likewise for the key.
        value: likewise for the value.
        output: likewise for the output; empty if D = C and nothing follows the attention.
        before: the operations that query, key and value have in common, first of all (a norm).
        scale: the factor of the scores.
        weight: the path of gamma, a parameter of one element; "" for none.
        skips: whether x is added.
    """

    in_channels: int
    reduced: int
    value_channels: int
    query: tuple[Link, ...]
    key: tuple[Link, ...]
    value: tuple[Link, ...]
    output: tuple[Link, ...] = ()
    before: tuple[Link, ...] = ()
    scale: float = 1.0
    weight: str = ""
    skips: bool = True

    def attend(
        self, block: nn.Module, x: Tensor, strategy: Strategy, implementation: Callable[..., AttentionOutput]
    ) -> AttentionOutput:
        """Compute the formula by a strategy.

        Args:
            block: the block whose parts are used.
            x: the map, (B, C, H, W).
            strategy: how to compute it.
            implementation: the strategy's function. It is found beforehand because a compiled forward cannot import.

        Returns:
            The output (B, C, H, W), and the attention map (B, N, M) if the strategy has one, else None.
        """

        def attend(x: Tensor) -> AttentionOutput:
            return implementation(self._projections(block, x, strategy.pool), *strategy.attention.sizes)

        return run_attention(strategy, attend, x)

    def _projections(self, block: nn.Module, x: Tensor, pool: int) -> Projections:
        before = [_SharedProjection(_chain(self.before, block))] if self.before else []
        scaled = [partial(_times, self.scale)] if self.scale != 1 else []
        gamma = attrgetter(self.weight)(block) if self.weight else None
        parts = BlockParts(
            _chain(self.query, block, before, scaled),
            _chain(self.key, block, before),
            _chain(self.value, block, before),
            gamma=gamma.reshape(1) if gamma is not None and gamma.dim() > 1 else gamma,
            reduced=self.reduced,
            value_channels=self.value_channels,
            output=_chain(self.output, block) if self.output else None,
            skips=self.skips,
        )
        return Projections(x, parts, pool)


def _chain(
    links: tuple[Link, ...], block: nn.Module, first: list[Any] | None = None, last: list[Any] | None = None
) -> Projection:
    projections: list[Projection] = [*(first or ()), *(link.find_in(block) for link in links), *(last or ())]
    return projections[0] if len(projections) == 1 else chain(*projections)


def _times(factor: float, x: Tensor) -> Tensor:
    return factor * x


class _FlatMapProjection:
    """A module on flattened maps (B, C, N), as a projection of maps (B, C, H, W)."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, x: Tensor) -> Tensor:
        flat: Tensor = self.module(x.flatten(2))
        return flat.view(*flat.shape[:2], *x.shape[2:])


class _SharedProjection:
    """A projection that runs once for query, key and value: a norm in front must update its statistics only once."""

    def __init__(self, projection: Projection) -> None:
        self.projection = projection
        self.latest: tuple[Tensor, Tensor] | None = None

    def __call__(self, x: Tensor) -> Tensor:
        if self.latest is None or self.latest[0] is not x:
            self.latest = x, self.projection(x)
        return self.latest[1]
