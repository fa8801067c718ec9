"""The recognition of a user's block: what it computes is found by running it.

A block is known by what it computes, and not by its names. Its 1x1 convolutions show what it could be (`anatomy`). Then
it runs on a small random map, with random parameters in place of its own (`rehearsal`), because gamma is zero in a new
block and would hide everything. It is compared with each formula that it could be (`comparison`): output, gradients,
buffers and the returned map must agree, in training and in evaluation mode. After that, the patched form must agree
with the block in the same way. The user's parameters, buffers, random state and modes are restored.

A block on a device that computes nothing cannot be compared. On request it is recognised by the names of its parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from attnprof.patching.anatomy import Anatomy
from attnprof.patching.comparison import compare_with_patched, find_formula, find_return_forms
from attnprof.patching.formula import Formula
from attnprof.patching.not_recognised import DoesNotRunError, NotRecognisedError, first_line
from attnprof.patching.patched_block import original_class
from attnprof.patching.proof import Difference
from attnprof.patching.rehearsal import Rehearsal
from attnprof.patching.signature import ForwardSignature, NotOneMapError, ReturnForm, forward_signature
from attnprof.patching.trial_run import run_trial

# Double precision distinguishes formulas best, and half precision not at all. Not every device and every forward can
# use it.
_DTYPES = (torch.float64, torch.float32)
# One tolerance serves both dtypes, since a block may take its softmax in float32 in any case.
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class RecognisedBlock:
    """A block whose formula is known.

    Attributes:
        anatomy: its parts.
        formula: what it computes.
        returned: the form of what it returns, first without asking for its map, then with asking.
        usual_map: whether its map is (B, N, M) or (B, M, N); True if it returns none.
        kept: attributes in which it keeps tensors of its forward.
        scaled: whether the stand-in parameters that distinguished it were those for scaled-down scores.
    """

    anatomy: Anatomy
    formula: Formula
    returned: tuple[ReturnForm, ReturnForm]
    usual_map: bool
    kept: tuple[str, ...]
    scaled: bool


def recognise(anatomy: Anatomy) -> RecognisedBlock:
    """Recognise a block by proof: find the first formula that has its output, gradients and buffers.

    Raises:
        NotRecognisedError: no formula has them, or the block cannot be run.
    """
    signature = _signature_of(anatomy)
    for dtype in _DTYPES:
        try:
            return _recognise_in(dtype, anatomy, signature)
        except DoesNotRunError as error:
            failure = error
    raise failure


def recognise_by_names(anatomy: Anatomy) -> RecognisedBlock:
    """Recognise a block by the names of its parts only, without a proof.

    Raises:
        NotRecognisedError: the names do not suggest a formula, or it does not return what such a block returns.
    """
    signature = _signature_of(anatomy)
    formula = anatomy.formula_by_names()
    if formula is None:
        raise NotRecognisedError("the names of its parts do not say what it computes")
    scaled = anatomy.scale_order[0]
    with _rehearse(anatomy, scaled) as rehearsal:
        trial = run_trial(anatomy, signature, rehearsal)
        if not trial.ops.softmaxes:
            raise NotRecognisedError("it takes no softmax, whatever its names say", attends=trial.ops.attends)
        return RecognisedBlock(anatomy, formula, trial.forms, True, trial.kept, scaled)


def prove_patched(found: RecognisedBlock, patched: type[Any]) -> tuple[Difference, float]:
    """Compare a block in its patched class with the user's own forward, on a small random map.

    Args:
        found: the block.
        patched: the class that it is to become.

    Returns:
        The largest difference, and the tolerance for it.

    Raises:
        NotRecognisedError: the block cannot be run.
    """
    with _rehearse(found.anatomy, found.scaled) as rehearsal:
        trial = run_trial(found.anatomy, _signature_of(found.anatomy), rehearsal)
        return compare_with_patched(patched, trial), trial.tolerance


def _recognise_in(dtype: torch.dtype, anatomy: Anatomy, signature: ForwardSignature) -> RecognisedBlock:
    for scaled in anatomy.scale_order:
        with _rehearse(anatomy, scaled, dtype) as rehearsal:
            trial = run_trial(anatomy, signature, rehearsal, _TOLERANCE)
            formula, is_telling = find_formula(anatomy, trial)
            if is_telling:
                returned, usual_map = find_return_forms(formula, trial)
                return RecognisedBlock(anatomy, formula, returned, usual_map, trial.kept, scaled)
    raise NotRecognisedError("its attention is nearly the same everywhere on a small random map: nothing is proven")


def _rehearse(anatomy: Anatomy, scaled: bool, dtype: torch.dtype | None = None) -> Rehearsal:
    try:
        return Rehearsal(anatomy.block, anatomy.gains(scaled), dtype)
    except Exception as error:  # a device without the dtype, or parameters that are not plain tensors
        raise DoesNotRunError(f"its parameters cannot be replaced for a trial: {first_line(error)}") from None


def _signature_of(anatomy: Anatomy) -> ForwardSignature:
    try:
        return forward_signature(original_class(anatomy.block))
    except NotOneMapError as error:
        raise NotRecognisedError(str(error), attends=anatomy.named) from None
