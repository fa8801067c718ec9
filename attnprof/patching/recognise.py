"""What a user's block computes, found by running it against all that its parts could compute."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

from attnprof.attention.strategies.naive import naive
from attnprof.attention.strategy import parse_strategy
from attnprof.patching.anatomy import Anatomy
from attnprof.patching.formula import Formula
from attnprof.patching.observed_ops import OpObserver
from attnprof.patching.patched_block import original_class
from attnprof.patching.proof import Difference, attention_scale, difference, relative, tolerance_for
from attnprof.patching.rehearsal import Rehearsal
from attnprof.patching.signature import ForwardSignature, NotOneMapError, ReturnForm, forward_signature, unpack

_NAIVE = parse_strategy("naive")
# Height and width: different, and small. Odd first, which tells how pooling rounds; some blocks take even maps alone.
_SIZES = ((6, 5), (8, 6), (16, 12))
_BATCH = 2
# Where a block attends within windows of a large map, it does not on a small one.
_LARGER = (32, 24)
# Double precision tells best, and half not at all. Not all devices and forwards have it.
_DTYPES = (torch.float64, torch.float32)
# Also for a block that takes its softmax in float32 whatever comes.
_TOLERANCE = 1e-4
# By how many tolerances attention must differ from the same everywhere, to be told from anything else.
_TELLING = 5


class NotRecognisedError(Exception):
    """Why a block cannot be patched, in words.

    Attributes:
        attends: whether it looks like attention.
        is_leaf: whether nothing inside it is worth a word either.
    """

    def __init__(self, reason: str, *, attends: bool = True, is_leaf: bool = False) -> None:
        super().__init__(reason)
        self.attends, self.is_leaf = attends, is_leaf


class _DoesNotRunError(NotRecognisedError):
    """Its forward fails, at least in this dtype."""


@dataclass(frozen=True)
class RecognisedBlock:
    """A block's formula, and the form of what it hands back without and with its map being asked for.

    Attributes:
        anatomy: of the block.
        usual_map: whether the map is (B, N, M) or (B, M, N); True where it returns none.
        kept: attributes in which the block keeps tensors of its forward.
        scaled: whether the parameters that told were those for scores that are scaled down.
    """

    anatomy: Anatomy
    formula: Formula
    returned: tuple[ReturnForm, ReturnForm]
    usual_map: bool
    kept: tuple[str, ...]
    scaled: bool


def recognise(anatomy: Anatomy) -> RecognisedBlock:
    """By proof: the first meaning that has the block's output, gradients and buffers, on a small random map.

    Raises:
        NotRecognisedError: none has, or the block cannot be run.
    """
    signature = _signature(anatomy)
    for dtype in _DTYPES:
        try:
            return _recognise_in(dtype, anatomy, signature)
        except _DoesNotRunError as error:
            failure = error
    raise failure


def _recognise_in(dtype: torch.dtype, anatomy: Anatomy, signature: ForwardSignature) -> RecognisedBlock:
    for scaled in anatomy.scaled:
        with _rehearsal(anatomy, scaled, dtype) as rehearsal:
            trial = _Trial(anatomy, signature, rehearsal, _TOLERANCE)
            formula, telling = trial.formula()
            if telling:
                returned, usual = trial.returned(formula)
                return RecognisedBlock(anatomy, formula, returned, usual, trial.kept, scaled)
    raise NotRecognisedError("its attention is nearly the same everywhere on a small random map: nothing is proven")


def recognise_by_names(anatomy: Anatomy) -> RecognisedBlock:
    """Without a proof: what the names of its parts say.

    Raises:
        NotRecognisedError: they say nothing, or the block does not return what such a block does.
    """
    signature = _signature(anatomy)
    formula = anatomy.by_names()
    if formula is None:
        raise NotRecognisedError("the names of its parts do not say what it computes")
    scaled = anatomy.scaled[0]
    with _rehearsal(anatomy, scaled) as rehearsal:
        trial = _Trial(anatomy, signature, rehearsal)
        if not trial.ops.softmaxes:
            raise NotRecognisedError("it takes no softmax, whatever its names say", attends=trial.ops.attends)
        return RecognisedBlock(anatomy, formula, trial.forms, True, trial.kept, scaled)


def proven(found: RecognisedBlock, patched: type[Any]) -> tuple[Difference, float]:
    """A block of the patched class against the user's own, on a small random map; and the tolerance.

    Raises:
        NotRecognisedError: it cannot be run.
    """
    with _rehearsal(found.anatomy, found.scaled) as rehearsal:
        trial = _Trial(found.anatomy, _signature(found.anatomy), rehearsal)
        return trial.against(patched), trial.tolerance


class _Trial:
    """One block, on stand-in parameters, at the first size that it takes."""

    def __init__(
        self, anatomy: Anatomy, signature: ForwardSignature, rehearsal: Rehearsal, tolerance: float | None = None
    ) -> None:
        self.anatomy, self.signature, self.rehearsal = anatomy, signature, rehearsal
        self.block = rehearsal.block
        self.x, self.ops = self._first_run()
        rehearsal.settle(self._original(with_map=False), self.x)
        plain, asked = (
            self.rehearsal.run(self._original(with_map), self.x).result
            for with_map in (False, bool(signature.asks_map))
        )
        try:
            (self.out, _, form), (_, self.asked_map, asked_form) = (
                unpack(result, tuple(self.x.shape)) for result in (plain, asked)
            )
        except NotOneMapError as error:
            raise NotRecognisedError(str(error), attends=self.ops.attends or all(anatomy.roles[0].named)) from None
        self.forms = form, asked_form
        self.kept = rehearsal.kept()
        self.tolerance = tolerance or tolerance_for(self.x)

    def formula(self) -> tuple[Formula, bool]:
        """And whether the map that it gives tells it from others."""
        if not self.ops.attends and not all(self.anatomy.roles[0].named):
            raise NotRecognisedError("it has no attention", attends=False)
        closest = float("inf")
        scale = attention_scale(self.out, self.x)
        for attempt in self.anatomy.formulas():
            try:
                maps, attention = self.rehearsal.run(self._attempt(attempt), self.x).result
            except Exception:  # parts that do not fit together in this order; the user's may raise anything
                continue
            for whole, expected in self._ends(attempt, maps):
                error = relative(expected, self.out, scale)
                closest = min(closest, error)
                if error <= self.tolerance:
                    candidate = self._attempt(whole)
                    refusal = self._difference(lambda x, with_map, by=candidate: by(x)[0]).refusal(self.tolerance)
                    if refusal and self.ops.dropout:
                        break
                    if refusal:
                        raise NotRecognisedError(f"it agrees with attention on one map, but {refusal}")
                    self._require_on_larger(whole)
                    uneven = relative(attention * attention.shape[2], torch.ones_like(attention), 1.0)
                    return whole, uneven > _TELLING * self.tolerance
        raise NotRecognisedError(self._unlike(closest))

    def _require_on_larger(self, formula: Formula) -> None:
        x = self.rehearsal.map_of(1, self.anatomy.in_channels, *_LARGER)
        try:
            out, _, _ = unpack(self.rehearsal.run(self._original(with_map=False), x).result, tuple(x.shape))
        except Exception as error:  # the user's code may raise anything
            raise NotRecognisedError(f"it takes maps of one size alone: {_first_line(error)}") from None
        found, _ = self.rehearsal.run(self._attempt(formula), x).result
        off = relative(found, out, attention_scale(out, x))
        if off > self.tolerance:
            raise NotRecognisedError(f"it attends to all positions on small maps alone: relative error {off:.0e}")

    def returned(self, formula: Formula) -> tuple[tuple[ReturnForm, ReturnForm], bool]:
        """The forms with the map's orientation, and whether it is one that a strategy's map can be given in."""
        if self.asked_map is None:
            return self.forms, True
        _, attention = self.rehearsal.run(self._attempt(formula), self.x).result
        for columns, given in ((False, attention), (True, attention.transpose(1, 2))):
            if self.asked_map.numel() == given.numel():
                error = relative(self.asked_map.reshape(given.shape), given, given.abs().max().item())
                if error <= self.tolerance:
                    plain, asked = (replace(form, columns=columns) for form in self.forms)
                    return (plain, asked), self.asked_map.shape == given.shape
        raise NotRecognisedError("what it returns beside its output is not the attention map of its positions")

    def against(self, patched: type[Any]) -> Difference:
        """The patched class against the block's own."""

        def call(x: Tensor, with_map: bool) -> Any:
            self.block.__class__ = patched
            return self.signature.call(self.block.forward, x, with_map)

        return self._difference(call)

    def _difference(self, candidate: Callable[..., Any]) -> Difference:
        """The largest of a candidate, with its map being asked for and without, from the block's own."""

        def parts_of(result: Any) -> tuple[Tensor, Tensor | None]:
            return unpack(result, tuple(self.x.shape))[:2]

        found = Difference(0.0, 0.0, 0.0)
        try:
            for with_map in {False, bool(self.signature.asks_map)}:
                found |= difference(
                    self.rehearsal, self.x, self._original(with_map), partial(candidate, with_map=with_map), parts_of
                )
        except Exception as error:  # the user's code may raise anything
            raise NotRecognisedError(f"its proof failed: {_first_line(error)}") from None
        return found

    def _ends(self, attempt: Formula, maps: Tensor) -> list[tuple[Formula, Tensor]]:
        """With and without the weight and the skip: the same run serves for all."""
        ends = []
        for weight in (*self.anatomy.weights, ""):
            term = attrgetter(weight)(self.block).detach() * maps if weight else maps
            ends += [(replace(attempt, weight=weight, skips=True), self.x + term)]
            ends += [(replace(attempt, weight=weight, skips=False), term)]
        return ends

    def _attempt(self, formula: Formula) -> Callable[[Tensor], Any]:
        return lambda x: formula.attend(self.block, x, _NAIVE, naive)

    def _original(self, with_map: bool) -> Callable[[Tensor], Any]:
        def call(x: Tensor) -> Any:
            self.block.__class__ = original_class(self.block)
            return self.signature.call(self.block.forward, x, with_map)

        return call

    def _first_run(self) -> tuple[Tensor, OpObserver]:
        failure = ""
        for height, width in _SIZES:
            x = self.rehearsal.map_of(_BATCH, self.anatomy.in_channels, height, width)
            ops = OpObserver(height * width)
            try:
                with ops:
                    # In training, where dropout shows.
                    self.rehearsal.run(self._original(with_map=False), x, training=True)
            except Exception as error:  # the user's code may raise anything
                failure = failure or f"its forward failed on a map of {tuple(x.shape)}: {_first_line(error)}"
            else:
                return x, ops
        raise _DoesNotRunError(failure, attends=all(self.anatomy.roles[0].named))

    def _unlike(self, closest: float) -> str:
        if self.ops.dropout:
            return "it drops out in training, as no strategy does"
        for name in ("num_heads", "n_heads", "heads", "num_head"):
            heads = getattr(self.block, name, 1)
            if isinstance(heads, int) and heads > 1:
                return f"it has several heads ({name}={heads})"
        if not self.ops.softmaxes:
            return "its weights are no softmax of the scores"
        return f"it computes something else than attention over positions: closest relative error {closest:.0e}"


def _rehearsal(anatomy: Anatomy, scaled: bool, dtype: torch.dtype | None = None) -> Rehearsal:
    try:
        return Rehearsal(anatomy.block, anatomy.gains(scaled), dtype)
    except Exception as error:  # a device without the dtype, or parameters that are no plain tensors
        raise _DoesNotRunError(f"its parameters cannot be stood in for: {_first_line(error)}") from None


def _signature(anatomy: Anatomy) -> ForwardSignature:
    try:
        return forward_signature(original_class(anatomy.block))
    except NotOneMapError as error:
        raise NotRecognisedError(str(error), attends=all(anatomy.roles[0].named)) from None


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:120]}" if text else type(error).__name__
