"""2-D self-attention blocks and the strategies that compute them. Depends on torch only, not on the profiler."""

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
    """Import `SelfAttention2d` when it is first used."""
    # Imported late: the names and facts of strategies and blocks need no torch, and the modules do.
    if name == "SelfAttention2d":
        from attnprof.attention.blocks.sagan import SelfAttention2d

        return SelfAttention2d
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
