"""2-D self-attention blocks: usable with nothing else of attnprof, depending on torch alone."""

from typing import TYPE_CHECKING, Any

from attnprof.attention.blocks.catalogue import BLOCKS, BlockError, BlockForm, block_form
from attnprof.attention.strategy import COMPONENTS, Component, Strategy, StrategyError, parse_strategy

if TYPE_CHECKING:
    from attnprof.attention.blocks.sagan import SelfAttention2d

__all__ = [
    "BLOCKS",
    "COMPONENTS",
    "BlockError",
    "BlockForm",
    "Component",
    "SelfAttention2d",
    "Strategy",
    "StrategyError",
    "block_form",
    "parse_strategy",
]


def __getattr__(name: str) -> Any:
    # Names and facts about strategies and blocks answer without torch; the modules themselves need it.
    if name == "SelfAttention2d":
        from attnprof.attention.blocks.sagan import SelfAttention2d

        return SelfAttention2d
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
