"""Code to paste: a strategy in the place of a user's own block, with its weights."""

from __future__ import annotations

from attnprof.attention.registry import parse_strategy

_CODE = """\
# pip install attnprof
from attnprof import SelfAttention2d

# `old` is your block, with query_conv, key_conv, value_conv and gamma.
channels = old.value_conv.in_channels
reduction = channels // old.query_conv.out_channels
new = SelfAttention2d(channels, "{strategy}", reduction=reduction)
new.load_state_dict(old.state_dict())
new.to(old.gamma.device).train(old.training)
# {result}"""


def snippet(strategy: str) -> str:
    """Lines that make the block `new` of the block `old`.

    Raises:
        StrategyError: an unknown or impossible strategy.
    """
    parsed = parse_strategy(strategy)
    result = (
        "new(x) gives the output alone, new(x, return_attention=True) the map too."
        if parsed.has_map
        else "new(x) gives the output; there is no attention map."
    )
    if parsed.another_attention:
        result += "\n# Another attention than old's: the weights load, and need training again."
    return _CODE.format(strategy=parsed, result=result)
