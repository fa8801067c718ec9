"""Code to paste: it replaces a user's own block with a strategy and keeps the weights."""

from __future__ import annotations

from attnprof.attention.blocks.catalogue import block_form
from attnprof.attention.strategy import parse_strategy

_SAGAN = """\
# attnprof is installed from a clone of its repository: pip install .
from attnprof import SelfAttention2d

# `old` is your block, with query_conv, key_conv, value_conv and gamma.
channels = old.value_conv.in_channels
reduction = channels // old.query_conv.out_channels
new = SelfAttention2d(channels, "{strategy}", reduction=reduction)
new.load_state_dict(old.state_dict())
new.to(old.gamma.device).train(old.training)
# {result}"""

_PATCHED = """\
# attnprof is installed from a clone of its repository: pip install .
import attnprof

# `model` is yours. Its blocks keep their weights. The report lists the
# blocks that could not be patched, with the reason.
print(attnprof.patch(model, strategy="{strategy}"))
# {result}"""

_ANEW = """\
# attnprof is installed from a clone of its repository: pip install .
from attnprof.attention import block_form

# A block of its own: {strategy} keeps its parameters in that precision.
new = block_form("{block}").build(channels, "{strategy}")
# {result}"""


def snippet(strategy: str, block: str = "sagan") -> str:
    """Return code that makes a block `new` from the block `old`, or patches the blocks of a `model` in place.

    Args:
        strategy: its spelling.
        block: the name of the user's block.

    Raises:
        StrategyError: an unknown or impossible strategy.
        BlockError: an unknown block.
    """
    parsed, form = parse_strategy(strategy), block_form(block)
    template, result = _ANEW, "new(x) returns the output; there is no attention map."
    if form.name == "sagan":
        template = _SAGAN
    elif parsed.precision_name not in ("fp16", "bf16"):
        template, result = _PATCHED, "Call model(x) as before; attnprof.unpatch(model) undoes it."
    if template is not _PATCHED and parsed.has_map:
        result = "new(x) returns the output, new(x, return_attention=True) the map as well."
    if parsed.another_attention:
        result += "\n# This is another attention: the weights load but need training again."
    return template.format(strategy=parsed, block=form.name, result=result)
