"""Comparing a block's trial run with what its parts could compute, and with its patched form."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

from attnprof.patching.anatomy import Anatomy
from attnprof.patching.formula import Formula
from attnprof.patching.not_recognised import NotRecognisedError, first_line
from attnprof.patching.proof import Difference, attention_scale, difference, relative
from attnprof.patching.signature import ReturnForm, unpack
from attnprof.patching.trial_run import TrialRun

# Height and width of a larger map: a block that attends within windows of it attends to all positions of a small one.
_LARGER = (32, 24)
# An attention map that differs from a uniform one by less than this many tolerances could be anything.
_TELLING = 5


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A formula that the block could compute, with its attention map and the relative error of its output."""

    formula: Formula
    attention: Tensor
    error: float


def find_formula(anatomy: Anatomy, trial: TrialRun) -> tuple[Formula, bool]:
    """Find the first formula that agrees with the block in its output, gradients and buffers.

    Returns:
        The formula, and whether its attention map is uneven enough to distinguish it from other formulas.

    Raises:
        NotRecognisedError: no formula agrees, or one does on this map but not in everything.
    """
    if not trial.ops.attends and not anatomy.named:
        raise NotRecognisedError("it has no attention", attends=False)
    closest = float("inf")
    for candidate in _candidates(anatomy, trial):
        closest = min(closest, candidate.error)
        if candidate.error <= trial.tolerance and _agrees_in_everything(candidate.formula, trial):
            _require_on_larger_map(candidate.formula, anatomy, trial)
            return candidate.formula, _is_uneven(candidate.attention, trial.tolerance)
    raise NotRecognisedError(_explain(trial, closest))


def find_return_forms(formula: Formula, trial: TrialRun) -> tuple[tuple[ReturnForm, ReturnForm], bool]:
    """Find how the attention map that the block returns is laid out.

    Returns:
        The forms of what the block returns, without and with asking for the map; and whether the map has the shape
        (B, N, M) or (B, M, N), in which a strategy can return its own. True if the block returns no map.

    Raises:
        NotRecognisedError: what the block returns beside its output is not the formula's attention map.
    """
    if trial.asked_map is None:
        return trial.forms, True
    _, attention = trial.rehearsal.run(trial.formula_forward(formula), trial.x).result
    for columns, expected in ((False, attention), (True, attention.transpose(1, 2))):
        if _is_same_map(trial.asked_map, expected, trial.tolerance):
            plain, asked = (replace(form, columns=columns) for form in trial.forms)
            return (plain, asked), trial.asked_map.shape == expected.shape
    raise NotRecognisedError("what it returns beside its output is not the attention map of its positions")


def compare_with_patched(patched: type[Any], trial: TrialRun) -> Difference:
    """Compare the forward of a patched class with the block's own.

    Raises:
        NotRecognisedError: one of them fails.
    """

    def patched_forward(x: Tensor, with_map: bool) -> Any:
        trial.block.__class__ = patched
        return trial.signature.call(trial.block.forward, x, with_map)

    return _largest_difference(patched_forward, trial)


def _candidates(anatomy: Anatomy, trial: TrialRun) -> Iterator[_Candidate]:
    scale = attention_scale(trial.out, trial.x)
    for formula in anatomy.formulas():
        try:
            maps, attention = trial.rehearsal.run(trial.formula_forward(formula), trial.x).result
        except Exception:  # parts that do not fit together in this order; the user's may raise anything
            continue
        for whole, expected in _endings(formula, maps, anatomy, trial):
            yield _Candidate(whole, attention, relative(expected, trial.out, scale))


def _endings(formula: Formula, maps: Tensor, anatomy: Anatomy, trial: TrialRun) -> list[tuple[Formula, Tensor]]:
    """Return the formula with each weight, and with and without the skip: one run of `maps` serves for all."""
    endings = []
    for weight in (*anatomy.weights, ""):
        term = attrgetter(weight)(trial.block).detach() * maps if weight else maps
        endings.append((replace(formula, weight=weight, skips=True), trial.x + term))
        endings.append((replace(formula, weight=weight, skips=False), term))
    return endings


def _agrees_in_everything(formula: Formula, trial: TrialRun) -> bool:
    """Compare gradients and buffers too, in both modes; False if the block drops out, which no formula does.

    Raises:
        NotRecognisedError: something differs that is not dropout's doing.
    """
    forward = trial.formula_forward(formula)
    refusal = _largest_difference(lambda x, with_map: forward(x)[0], trial).refusal(trial.tolerance)
    if refusal and not trial.ops.dropout:
        raise NotRecognisedError(f"it agrees with attention on one map, but {refusal}")
    return not refusal


def _require_on_larger_map(formula: Formula, anatomy: Anatomy, trial: TrialRun) -> None:
    x = trial.rehearsal.map_of(1, anatomy.in_channels, *_LARGER)
    try:
        out, _, _ = unpack(trial.rehearsal.run(trial.own_forward(with_map=False), x).result, tuple(x.shape))
    except Exception as error:  # the user's code may raise anything
        raise NotRecognisedError(f"it accepts maps of one size only: {first_line(error)}") from None
    found, _ = trial.rehearsal.run(trial.formula_forward(formula), x).result
    off = relative(found, out, attention_scale(out, x))
    if off > trial.tolerance:
        raise NotRecognisedError(f"it attends to all positions on small maps only: relative error {off:.0e}")


def _is_uneven(attention: Tensor, tolerance: float) -> bool:
    """Return whether the rows of a map (B, N, M) are far from 1 / M everywhere."""
    return relative(attention * attention.shape[2], torch.ones_like(attention), 1.0) > _TELLING * tolerance


def _is_same_map(found: Tensor, expected: Tensor, tolerance: float) -> bool:
    """Return whether two maps have the same values in the same order, whatever their shapes."""
    if found.numel() != expected.numel():
        return False
    return relative(found.reshape(expected.shape), expected, expected.abs().max().item()) <= tolerance


def _largest_difference(candidate: Callable[..., Any], trial: TrialRun) -> Difference:
    """Return the larger difference from the block's own forward, without and with asking for its map.

    Args:
        candidate: called with the map and `with_map`; returns what the block would.
        trial: the block.
    """

    def parts_of(result: Any) -> tuple[Tensor, Tensor | None]:
        return unpack(result, tuple(trial.x.shape))[:2]

    found = Difference(0.0, 0.0, 0.0)
    try:
        for with_map in {False, bool(trial.signature.asks_map)}:
            found |= difference(
                trial.rehearsal, trial.x, trial.own_forward(with_map), partial(candidate, with_map=with_map), parts_of
            )
    except Exception as error:  # the user's code may raise anything
        raise NotRecognisedError(f"its proof failed: {first_line(error)}") from None
    return found


def _explain(trial: TrialRun, closest: float) -> str:
    """Return the most likely reason why no formula agrees with the block."""
    if trial.ops.dropout:
        return "it drops out in training, and no strategy does"
    for name in ("num_heads", "n_heads", "heads", "num_head"):
        heads = getattr(trial.block, name, 1)
        if isinstance(heads, int) and heads > 1:
            return f"it has several heads ({name}={heads})"
    if not trial.ops.softmaxes:
        return "its weights are not a softmax of the scores"
    return f"it computes something other than attention over positions: closest relative error {closest:.0e}"
