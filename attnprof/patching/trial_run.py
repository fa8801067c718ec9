"""Running a user's block once as it is, on stand-in parameters and a small random map.

Everything that is compared later starts here: the map, the block's output on it, the operations that it used, and the
form of what it returned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from attnprof.attention.strategies.naive import naive
from attnprof.attention.strategy import parse_strategy
from attnprof.patching.anatomy import Anatomy
from attnprof.patching.formula import Formula
from attnprof.patching.not_recognised import DoesNotRunError, NotRecognisedError, first_line
from attnprof.patching.observed_ops import OpObserver
from attnprof.patching.patched_block import original_class
from attnprof.patching.proof import tolerance_for
from attnprof.patching.rehearsal import Rehearsal
from attnprof.patching.signature import ForwardSignature, NotOneMapError, ReturnForm, unpack

_NAIVE = parse_strategy("naive")
_BATCH = 2
# Height and width: different, and small. An odd size comes first because it shows how pooling rounds; some blocks take
# even maps only.
_SIZES = ((6, 5), (8, 6), (16, 12))


@dataclass(frozen=True, eq=False)
class TrialRun:
    """The outcome of running a block on a small random map, at the first size that it accepts.

    Attributes:
        rehearsal: the block on its stand-in parameters.
        signature: of the block's forward.
        x: the map, (2, C, H, W).
        ops: the operations of a forward in training mode.
        out: the block's output, of the shape of x.
        asked_map: the attention map, returned by default or because an argument asked for it; None if there is none.
        forms: the form of what the block returns, first without asking for the map, then with asking.
        kept: attributes in which the block keeps tensors of its forward.
        tolerance: the largest relative error that counts as agreement.
    """

    rehearsal: Rehearsal
    signature: ForwardSignature
    x: Tensor
    ops: OpObserver
    out: Tensor
    asked_map: Tensor | None
    forms: tuple[ReturnForm, ReturnForm]
    kept: tuple[str, ...]
    tolerance: float

    @property
    def block(self) -> nn.Module:
        """The block itself."""
        return self.rehearsal.block

    def own_forward(self, with_map: bool) -> Callable[[Tensor], Any]:
        """Return the block's own forward as a function of the map.

        Args:
            with_map: whether it asks for the attention map, if the block has an argument for that.
        """
        return _own_forward(self.block, self.signature, with_map)

    def formula_forward(self, formula: Formula) -> Callable[[Tensor], Any]:
        """Return a function that computes a formula with the block's parts: (output, attention map) of a map."""
        return lambda x: formula.attend(self.block, x, _NAIVE, naive)


def run_trial(
    anatomy: Anatomy, signature: ForwardSignature, rehearsal: Rehearsal, tolerance: float | None = None
) -> TrialRun:
    """Run the block of a rehearsal as it is.

    Args:
        anatomy: the block's parts.
        signature: of the block's forward.
        rehearsal: the block on its stand-in parameters, entered.
        tolerance: the largest relative error that counts as agreement; None: what the dtype of the map allows.

    Returns:
        What the block did.

    Raises:
        NotRecognisedError: the block fails on every size, or does not return a map of its input's shape.
    """
    x, ops = _find_size(anatomy, signature, rehearsal)
    rehearsal.settle(_own_forward(rehearsal.block, signature, with_map=False), x)
    plain, asked = (
        rehearsal.run(_own_forward(rehearsal.block, signature, with_map), x).result
        for with_map in (False, bool(signature.asks_map))
    )
    try:
        (out, _, form), (_, asked_map, asked_form) = (unpack(result, tuple(x.shape)) for result in (plain, asked))
    except NotOneMapError as error:
        raise NotRecognisedError(str(error), attends=ops.attends or anatomy.named) from None
    return TrialRun(
        rehearsal,
        signature,
        x,
        ops,
        out,
        asked_map,
        forms=(form, asked_form),
        kept=rehearsal.kept(),
        tolerance=tolerance or tolerance_for(x),
    )


def _find_size(anatomy: Anatomy, signature: ForwardSignature, rehearsal: Rehearsal) -> tuple[Tensor, OpObserver]:
    """Run the block on maps of each size until one works; return that map and the operations of the run."""
    failure = ""
    for height, width in _SIZES:
        x = rehearsal.map_of(_BATCH, anatomy.in_channels, height, width)
        ops = OpObserver(height * width)
        try:
            with ops:
                # In training mode, in which dropout shows.
                rehearsal.run(_own_forward(rehearsal.block, signature, with_map=False), x, training=True)
        except Exception as error:  # the user's code may raise anything
            failure = failure or f"its forward failed on a map of {tuple(x.shape)}: {first_line(error)}"
        else:
            return x, ops
    raise DoesNotRunError(failure, attends=anatomy.named)


def _own_forward(block: nn.Module, signature: ForwardSignature, with_map: bool) -> Callable[[Tensor], Any]:
    def call(x: Tensor) -> Any:
        # Another forward of the comparison may have left the patched class on the block.
        block.__class__ = original_class(block)
        return signature.call(block.forward, x, with_map)

    return call
