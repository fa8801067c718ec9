"""The attention blocks of the papers by name, and the facts about each that need no building. Imports no torch.

To add a block: write its file beside this one and add one line to `BLOCKS`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from attnprof.attention.did_you_mean import did_you_mean, quoted
from attnprof.attention.strategy import Strategy

if TYPE_CHECKING:
    from attnprof.attention.blocks.base import AttentionBlock


class BlockError(ValueError):
    """A block's name is unknown; the message contains the nearest known ones."""


@dataclass(frozen=True)
class BlockForm:
    """The facts about an attention block that need no building.

    Attributes:
        name: the name, as users spell it.
        summary: one line for a listing.
        source: the paper.
        implementation: `module:Class` under `attnprof.attention.blocks`.
        reduction: C / E in its paper, E the channels of query and key.
        value_reduction: C / D, D the channels of value; None if D = E.
        pool: the factor by which keys and values are max-pooled in height and width; 1 for none.
        projects_back: whether a convolution brings D channels back to C.
        channel_attention: whether attention over channels, C x C, is part of the block.
    """

    name: str
    summary: str
    source: str
    implementation: str
    reduction: int = 8
    value_reduction: int | None = 1
    pool: int = 1
    projects_back: bool = False
    channel_attention: bool = False

    def build(self, channels: int, strategy: str | Strategy, reduction: int | None = None) -> AttentionBlock:
        """Build the module; this imports torch.

        Args:
            channels: C.
            strategy: how the block is computed.
            reduction: C / E; None: that of the paper.

        Returns:
            The module, with new parameters.

        Raises:
            StrategyError: the strategy is unknown or impossible.
            ValueError: C is not divisible by a reduction.
        """
        module, _, name = self.implementation.partition(":")
        built: AttentionBlock = getattr(import_module(f"attnprof.attention.blocks.{module}"), name)(
            channels, strategy, reduction=reduction or self.reduction
        )
        return built

    def value_channels(self, channels: int, reduction: int) -> int:
        """Return D, the channels of value, for C channels and a reduction C / E."""
        return channels // (self.value_reduction or reduction)

    def channel_multiple(self, reduction: int) -> int:
        """Return the number that C must be a multiple of, for a reduction C / E."""
        return math.lcm(reduction, self.value_reduction or 1)

    def forward_flops(self, batch: int, channels: int, height: int, width: int, reduction: int) -> int:
        """Count the FLOPs of the plain block's matrix products; (a, b) x (b, c) counts 2abc.

        Args:
            batch: B.
            channels: C.
            height: H.
            width: W.
            reduction: C / E.

        Returns:
            The FLOPs of one forward.
        """
        c, e, d = channels, channels // reduction, self.value_channels(channels, reduction)
        n, m = height * width, max(1, height // self.pool) * max(1, width // self.pool)
        projections = n * c * (2 * e + d + (d if self.projects_back else 0))
        over_channels = 2 * n * c * c if self.channel_attention else 0
        return 2 * batch * (projections + n * m * (e + d) + over_channels)


BLOCKS: tuple[BlockForm, ...] = (
    BlockForm(
        "sagan",
        summary="SAGAN as everyone writes it; DANet's position attention",
        source="Zhang et al. 2018, arXiv:1805.08318",
        implementation="sagan:SelfAttention2d",
    ),
    BlockForm(
        "sagan-official",
        summary="SAGAN's own code: keys and values max-pooled 2x2, output convolution",
        source="Zhang et al. 2018, and its code",
        implementation="sagan_official:SaganOfficialAttention2d",
        value_reduction=2,
        pool=2,
        projects_back=True,
    ),
    BlockForm(
        "danet",
        summary="position attention (N x N) and channel attention (C x C), summed",
        source="Fu et al. 2018, arXiv:1809.02983",
        implementation="danet:DualAttention2d",
        channel_attention=True,
    ),
    BlockForm(
        "nonlocal",
        summary="embedded Gaussian with sub_sample: phi and g max-pooled 2x2, output convolution and batch norm",
        source="Wang et al. 2017, arXiv:1711.07971",
        implementation="non_local:NonLocalBlock2d",
        reduction=2,
        value_reduction=None,
        pool=2,
        projects_back=True,
    ),
)

_BY_NAME = {form.name: form for form in BLOCKS}


def block_form(name: str) -> BlockForm:
    """Find a block by its name.

    Args:
        name: as in `BLOCKS`.

    Raises:
        BlockError: there is no such block.
    """
    form = _BY_NAME.get(name)
    if form is None:
        raise BlockError(f"unknown block {quoted(name)}: {did_you_mean(name, _BY_NAME)}")
    return form
