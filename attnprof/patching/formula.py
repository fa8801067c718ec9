"""What a user's block computes, in terms of its own parts."""

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
from attnprof.attention.projections import Projection, Projections, chain
from attnprof.attention.strategy import Strategy

_FUNCTIONS: dict[str, Projection] = {"max_pool2d(2)": partial(F.max_pool2d, kernel_size=2)}


@dataclass(frozen=True)
class Link:
    """One thing that is applied to a map.

    Attributes:
        path: of a module, seen from the block (`phi.0`); of a parameter of C elements, which multiplies the map's
            channels; or one of the functions that blocks call, `max_pool2d(2)`.
        flat: whether it works on the flattened map, (B, C, N), as a Conv1d does.
    """

    path: str
    flat: bool = False

    def of(self, block: nn.Module) -> Projection:
        """The module itself where it takes a map, so that a plain convolution is known as one."""
        if self.path in _FUNCTIONS:
            return _FUNCTIONS[self.path]
        # Not get_submodule: the replicas of DataParallel hold their parts otherwise.
        part: nn.Module | Tensor = attrgetter(self.path)(block)
        if isinstance(part, Tensor):
            return partial(torch.mul, part.reshape(-1, 1, 1))
        return _OnFlatMap(part) if self.flat else part


@dataclass(frozen=True)
class Formula:
    """A block's parts by their places in its formula:

        out = weight * output(value(x') softmax(scale * query(x')^T key(x'))^T) + x,    x' = before(x)

    It holds paths and no modules, so that it is true of copies of the block too.

    Attributes:
        in_channels, reduced, value_channels: C, E and D.
        weight: the path of gamma, a parameter of one element; "" for none.
        output: empty where D = C and nothing follows the attention.
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
        """The block's output and attention map, computed by a strategy; (B, C, H, W) each way.

        Args:
            implementation: the strategy's, found beforehand: an import has no place in a compiled forward.
        """

        def attend(x: Tensor) -> AttentionOutput:
            return implementation(self._projections(block, x, strategy.pool), *strategy.attention.sizes)

        return run_attention(strategy, attend, x)

    def _projections(self, block: nn.Module, x: Tensor, pool: int) -> Projections:
        before = [_Once(_chained(self.before, block))] if self.before else []
        scaled = [partial(_times, self.scale)] if self.scale != 1 else []
        gamma = attrgetter(self.weight)(block) if self.weight else None
        return Projections(
            x,
            _chained(self.query, block, before, scaled),
            _chained(self.key, block, before),
            _chained(self.value, block, before),
            gamma=gamma.reshape(1) if gamma is not None and gamma.dim() > 1 else gamma,
            reduced=self.reduced,
            value_channels=self.value_channels,
            output=_chained(self.output, block) if self.output else None,
            pool=pool,
            skips=self.skips,
        )


def _chained(
    links: tuple[Link, ...], block: nn.Module, first: list[Any] | None = None, last: list[Any] | None = None
) -> Projection:
    projections: list[Projection] = [*(first or ()), *(link.of(block) for link in links), *(last or ())]
    return projections[0] if len(projections) == 1 else chain(*projections)


def _times(factor: float, x: Tensor) -> Tensor:
    return factor * x


class _OnFlatMap:
    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, x: Tensor) -> Tensor:
        flat: Tensor = self.module(x.flatten(2))
        return flat.view(*flat.shape[:2], *x.shape[2:])


class _Once:
    """Query, key and value start from one map: a norm in front runs once, as its running statistics want it."""

    def __init__(self, projection: Projection) -> None:
        self.projection = projection
        self.seen: tuple[Tensor, Tensor] | None = None

    def __call__(self, x: Tensor) -> Tensor:
        if self.seen is None or self.seen[0] is not x:
            self.seen = x, self.projection(x)
        return self.seen[1]
