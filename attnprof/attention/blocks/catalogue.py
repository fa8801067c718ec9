"""The attention blocks of the papers by name, and what is known of each without building it. Imports no torch.

To add a block: write its file beside this one and add one line to `BLOCKS`.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from attnprof.attention.strategy import Strategy

if TYPE_CHECKING:
    from attnprof.attention.blocks.base import AttentionBlock


class BlockError(ValueError):
    """An unknown block; the message names the nearest that is known."""


@dataclass(frozen=True)
class BlockForm:
    """A block over all positions of a (B, C, H, W) map.

    Attributes:
        name: the spelling.
        summary: one line for a listing.
        source: the paper.
        implementation: `module:Class` under `attnprof.attention.blocks`.
        reduction: C / E that its paper uses, E the channels of query and key.
        value_reduction: C / D, D the channels of value; None: as for E.
        pool: by which keys and values are max-pooled in height and width.
        projects_back: whether a convolution brings D channels back to C.
        channel_attention: whether attention over channels, C x C, runs beside it.
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
        """The module, computed by a strategy; imports torch.

        Raises:
            StrategyError: an unknown or impossible strategy.
            ValueError: the channels do not divide.
        """
        module, _, name = self.implementation.partition(":")
        built: AttentionBlock = getattr(import_module(f"attnprof.attention.blocks.{module}"), name)(
            channels, strategy, reduction=reduction or self.reduction
        )
        return built

    def value_channels(self, channels: int, reduction: int) -> int:
        """D."""
        return channels // (self.value_reduction or reduction)

    def channel_multiple(self, reduction: int) -> int:
        """What C must be a multiple of."""
        return math.lcm(reduction, self.value_reduction or 1)

    def forward_flops(self, batch: int, channels: int, height: int, width: int, reduction: int) -> int:
        """Of the plain block's matrix products; (a, b) x (b, c) counts 2abc."""
        c, e, d = channels, channels // reduction, self.value_channels(channels, reduction)
        n, m = height * width, max(1, height // self.pool) * max(1, width // self.pool)
        projections = n * c * (2 * e + d + (d if self.projects_back else 0))
        over_channels = 2 * n * c * c if self.channel_attention else 0
        return 2 * batch * (projections + n * m * (e + d) + over_channels)


BLOCKS: tuple[BlockForm, ...] = (
    BlockForm("sagan", "SAGAN as everyone writes it; DANet's position attention",
              "Zhang et al. 2018, arXiv:1805.08318", "sagan:SelfAttention2d"),
    BlockForm("sagan-official", "SAGAN's own code: keys and values max-pooled 2x2, output convolution",
              "Zhang et al. 2018, and its code", "sagan_official:SaganOfficialAttention2d",
              value_reduction=2, pool=2, projects_back=True),
    BlockForm("danet", "position attention (N x N) and channel attention (C x C), summed",
              "Fu et al. 2018, arXiv:1809.02983", "danet:DualAttention2d", channel_attention=True),
    BlockForm("nonlocal", "embedded Gaussian with sub_sample: phi and g max-pooled 2x2, output convolution "
              "and batch norm", "Wang et al. 2017, arXiv:1711.07971", "non_local:NonLocalBlock2d",
              reduction=2, value_reduction=None, pool=2, projects_back=True),
)  # fmt: skip

_BY_NAME = {form.name: form for form in BLOCKS}


def block_form(name: str) -> BlockForm:
    """By its spelling.

    Raises:
        BlockError: no such block.
    """
    form = _BY_NAME.get(name)
    if form is None:
        near = difflib.get_close_matches(name.lower(), _BY_NAME, n=2, cutoff=0.4)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known: {', '.join(_BY_NAME)}"
        raise BlockError(f"unknown block {name!r}: {hint}")
    return form
