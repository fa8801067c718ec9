"""The swap of one block: it is decided on the block as it is, and carried out later.

The only attribute that patching adds to a block is `_strategy_before_patch`, on attnprof's own blocks, for `unpatch`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from attnprof.attention.blocks.base import AttentionBlock
from attnprof.attention.strategy import Strategy, StrategyError
from attnprof.patching.anatomy import Anatomy
from attnprof.patching.not_recognised import NotRecognisedError
from attnprof.patching.patch_report import Change
from attnprof.patching.patched_block import PatchedBlock, PatchSpec, original_class, patched_class
from attnprof.patching.proof import Difference, difference, tolerance_for
from attnprof.patching.recognise import RecognisedBlock, prove_patched, recognise, recognise_by_names
from attnprof.patching.rehearsal import Rehearsal

_FORMER = "_strategy_before_patch"


@dataclass(frozen=True)
class Swap:
    """A change that is decided on.

    Attributes:
        change: the change, for the report.
        apply: makes it.
    """

    change: Change
    apply: Callable[[], None]


def swap_for_users_block(path: str, anatomy: Anatomy, strategy: Strategy, prove: bool) -> Swap:
    """Decide on the swap of a block of a user's class.

    Args:
        path: the block's path in the model.
        anatomy: its parts.
        strategy: how it is to be computed.
        prove: whether to run the block; False goes by the names of its parts.

    Raises:
        NotRecognisedError: the block stays as it is; the message contains the reason.
    """
    block = anatomy.block
    if prove:
        _require_values(block)
    found = recognise(anatomy) if prove else recognise_by_names(anatomy)
    _require_map_form(found, strategy)
    made = _patched_class(found, strategy)
    if prove:
        change = _proven_change(*prove_patched(found, made), path=path, kind=_kind(found), strategy=strategy)
    else:
        change = Change(path, _kind(found), str(strategy), None, None, None, proven=False)
    return Swap(replace(change, note=_note(found, strategy)), lambda: setattr(block, "__class__", made))


def swap_for_own_block(path: str, block: AttentionBlock, strategy: Strategy, prove: bool) -> Swap:
    """Decide on the swap of a block of attnprof, which can change its strategy by itself.

    Args:
        path: the block's path in the model.
        block: the block.
        strategy: how it is to be computed.
        prove: whether to compare the two strategies.

    Raises:
        NotRecognisedError: the block stays as it is; the message contains the reason.
    """
    former: Strategy = vars(block).get(_FORMER, block.strategy)
    if former.approximation and former.definition() != strategy.definition():
        raise NotRecognisedError(f"it computes {former}, which is another function: call its use() to change it")
    kind = f"{type(block).__name__}, C {block.in_channels} -> E {block.in_channels // block.reduction}"
    if prove:
        _require_values(block)
        change = _proven_change(*_compare_strategies(block, former, strategy), path=path, kind=kind, strategy=strategy)
    else:
        change = Change(path, kind, str(strategy), None, None, None, proven=False)

    def apply() -> None:
        vars(block).setdefault(_FORMER, former)
        block.use(strategy)

    return Swap(change, apply)


def restore(module: nn.Module) -> bool:
    """Undo the patch of a module; return whether it was patched."""
    if isinstance(module, PatchedBlock):
        module.__class__ = original_class(module)
    elif isinstance(module, AttentionBlock) and _FORMER in vars(module):
        module.use(vars(module).pop(_FORMER))
    else:
        return False
    return True


def _patched_class(found: RecognisedBlock, strategy: Strategy) -> type[nn.Module]:
    """Make the patched class, and check that the block can become one of it."""
    block = found.anatomy.block
    its_class: Any = type(block)
    try:
        made = patched_class(original_class(block), PatchSpec(found.formula, strategy, found.returned))
        block.__class__ = made
        block.__class__ = its_class
    except Exception as error:  # a metaclass of the user's may raise anything
        raise NotRecognisedError(f"its class cannot be exchanged for a subclass: {error}") from None
    return made


def _compare_strategies(block: AttentionBlock, former: Strategy, strategy: Strategy) -> tuple[Difference, float]:
    def by(strategy: Strategy) -> Callable[[Tensor], Tensor]:
        def call(x: Tensor) -> Tensor:
            block.use(strategy)
            out = block.forward(x)
            assert isinstance(out, Tensor)
            return out

        return call

    convs = [module for module in block.modules() if isinstance(module, nn.Conv2d)]
    with Rehearsal(block, {conv: 1.5 * conv.out_channels**-0.25 for conv in convs}) as rehearsal:
        x = rehearsal.map_of(2, block.in_channels, 6, 5)
        try:
            return difference(rehearsal, x, by(former), by(strategy), lambda out: (out, None)), tolerance_for(x)
        except StrategyError as error:
            raise NotRecognisedError(str(error)) from None
        except Exception as error:
            raise NotRecognisedError(f"its proof failed: {error}") from None


def _proven_change(found: Difference, tolerance: float, *, path: str, kind: str, strategy: Strategy) -> Change:
    if refusal := found.refusal(tolerance if strategy.exact else sys.float_info.max):
        raise NotRecognisedError(f"by {strategy}, {refusal}")
    allowed = tolerance if strategy.exact else None
    return Change(path, kind, str(strategy), found.error, found.grad_error, allowed, proven=True)


def _require_values(block: nn.Module) -> None:
    """Raise NotRecognisedError if a device of the block computes nothing, so that a comparison proves nothing."""
    for device in {p.device for p in block.parameters()}:
        # An emulated card may know small values, but never those of a convolution, of which blocks consist.
        one = torch.ones(1, 1, 1, 1, device=device)
        if device.type == "meta" or torch.nn.functional.conv2d(one, one).item() != 1:
            raise NotRecognisedError(
                f"its device, {device}, computes nothing, so nothing can be proven: pass prove=False to go by names"
            )


def _require_map_form(found: RecognisedBlock, strategy: Strategy) -> None:
    if strategy.has_map and not found.usual_map:
        raise NotRecognisedError(
            "the map that it returns has a shape of its own: use a strategy without a map, which returns None instead"
        )


def _kind(found: RecognisedBlock) -> str:
    formula = found.formula
    channels = f"C {formula.in_channels} -> E {formula.reduced}"
    if formula.value_channels != formula.in_channels:
        channels += f", D {formula.value_channels}"
    return f"{original_class(found.anatomy.block).__name__}, {_family(found)}, {channels}"


def _family(found: RecognisedBlock) -> str:
    formula = found.formula
    output = [link for link in formula.output if link not in found.anatomy.scales]
    if formula.before:
        family = "attention block with a norm in front"
    elif formula.weight or len(output) < len(formula.output):
        family = "SAGAN block with an output convolution" if output else "SAGAN block"
    else:
        family = "non-local block" if output and formula.skips else "attention block"
    return family if formula.skips else f"{family} without the skip"


def _note(found: RecognisedBlock, strategy: Strategy) -> str:
    notes = []
    if any(form.order != "out" and not form.without for form in found.returned) and not strategy.has_map:
        notes.append("its map is None from now on")
    if found.kept:
        notes.append(f"self.{', self.'.join(found.kept)} is not set from now on")
    return "; ".join(notes)
