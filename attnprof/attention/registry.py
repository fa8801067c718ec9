"""The attention strategies and modifiers by name, how they compose, and what each promises.

This file knows names and facts only and imports no torch, so that plans and help texts answer at
once. To add a strategy: write its file beside this one and add one line to `COMPONENTS`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Literal

Kind = Literal["attention", "keys", "wrapper", "precision"]


class StrategyError(ValueError):
    """An unknown or impossible strategy; the message names the reason and the nearest valid spelling."""


@dataclass(frozen=True)
class Component:
    """One part of a strategy's spelling.

    Attributes:
        name: the spelling, without arguments.
        kind: `attention` computes the block, `keys` changes what is attended to, `wrapper` changes
            when it is computed, `precision` changes in which dtype. A strategy has one attention
            and at most one of each other kind.
        memory: how the step's memory grows with N = H * W, in forward and in training.
        summary: one line for a listing.
        arguments: names of the optional sizes after the colon (`online:512x2048`).
        defaults: their values where an absent argument has a fixed one.
        implementation: `module:function` under `attnprof.attention` (attentions only).
        has_map: whether the N x N attention map exists and can be returned.
        approximation: what is given up against the plain block in the workload's dtype; "" if exact.
    """

    name: str
    kind: Kind
    memory: tuple[str, str]
    summary: str
    arguments: tuple[str, ...] = ()
    defaults: tuple[int, ...] = ()
    implementation: str = ""
    has_map: bool = False
    approximation: str = ""


_QUADRATIC, _LINEAR, _SAME = ("N^2", "N^2"), ("N", "N"), ("", "")

COMPONENTS: tuple[Component, ...] = (
    Component("naive", "attention", _QUADRATIC, "plain two-matrix form, as everyone writes it",
              implementation="naive:naive", has_map=True),
    Component("chunked", "attention", _LINEAR, "query chunks; backward recomputes the weights",
              ("queries",), implementation="tiled:chunked"),
    Component("online", "attention", _LINEAR, "query and key tiles (online softmax)",
              ("queries", "keys"), implementation="tiled:online"),
    Component("sdpa", "attention", _QUADRATIC, "scaled_dot_product_attention on the conv outputs as they are",
              implementation="sdpa:sdpa"),
    Component("sdpa-pad", "attention", _LINEAR, "query and key zero-padded so that the fused kernels run",
              implementation="sdpa:sdpa_pad"),
    Component("sdpa-split", "attention", _LINEAR, "value columns as several heads so that the fused kernels run",
              implementation="sdpa:sdpa_split"),
    Component("pooled", "keys", _SAME, "keys and values max-pooled, as the official SAGAN code does",
              ("factor",), (2,), approximation="pooled keys"),
    Component("checkpoint", "wrapper", _SAME, "torch.utils.checkpoint around the block"),
    Component("fp16", "precision", _SAME, "module and input in float16", approximation="fp16"),
    Component("bf16", "precision", _SAME, "module and input in bfloat16", approximation="bf16"),
    Component("amp", "precision", _SAME, "autocast around the block", approximation="autocast"),
)  # fmt: skip

_BY_NAME = {component.name: component for component in COMPONENTS}
_SPELLING_ORDER: tuple[Kind, ...] = ("keys", "attention", "wrapper", "precision")


@dataclass(frozen=True)
class Part:
    """A component with the sizes that were given for it."""

    component: Component
    sizes: tuple[int, ...] = ()

    def __str__(self) -> str:
        sizes = "x".join(map(str, self.sizes))
        return f"{self.component.name}:{sizes}" if sizes else self.component.name


@dataclass(frozen=True)
class Strategy:
    """A composition such as `pooled:2+sdpa-pad+fp16`; `str()` gives its one canonical spelling."""

    attention: Part
    keys: Part | None = None
    wrapper: Part | None = None
    precision: Part | None = None

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts in the order of the canonical spelling."""
        parts = (getattr(self, kind) for kind in _SPELLING_ORDER)
        return tuple(part for part in parts if part is not None)

    def __str__(self) -> str:
        shown = [part for part in self.parts if not (self.keys and part.component.name == "naive")]
        return "+".join(map(str, shown))

    @property
    def approximation(self) -> str:
        """What is given up against the plain block in the workload's dtype; "" where exact."""
        return ", ".join(p.component.approximation for p in self.parts if p.component.approximation)

    @property
    def exact(self) -> bool:
        """Whether it computes the plain block's function to rounding of the workload's dtype."""
        return not self.approximation

    @property
    def has_map(self) -> bool:
        """Whether the attention map exists and can be returned."""
        return self.attention.component.has_map

    @property
    def pool(self) -> int:
        """The max-pooling factor of keys and values (1: none)."""
        return self.keys.sizes[0] if self.keys else 1

    @property
    def checkpoint(self) -> bool:
        """Whether the block is recomputed in backward."""
        return self.wrapper is not None

    @property
    def precision_name(self) -> str | None:
        """`fp16`, `bf16`, `amp` or None."""
        return self.precision.component.name if self.precision else None

    def definition(self) -> Strategy:
        """The plain form that computes the same function: its FLOPs are the useful ones."""
        return Strategy(Part(_BY_NAME["naive"]), keys=self.keys)

    def implementation(self) -> Callable[..., Any]:
        """The attention's function; imports its module, and so torch."""
        module, _, function = self.attention.component.implementation.partition(":")
        return getattr(import_module(f"attnprof.attention.{module}"), function)  # type: ignore[no-any-return]


@cache
def parse_strategy(text: str) -> Strategy:
    """Parse a spelling such as `chunked:1024+checkpoint`, in any order of parts.

    Without an attention, `naive` is meant (`pooled`, `fp16`).

    Raises:
        StrategyError: an unknown name, a malformed size, or parts that exclude one another.
    """
    found: dict[Kind, Part] = {}
    for spelling in text.strip().split("+"):
        part = _parse_part(spelling.strip(), text)
        kind = part.component.kind
        if kind in found:
            raise StrategyError(
                f"strategy {text!r}: {found[kind]} and {part} exclude one another; nearest valid: "
                f"{_first_of_each_kind(text)!r}"
            )
        found[kind] = part
    found.setdefault("attention", Part(_BY_NAME["naive"]))
    return Strategy(**found)


def _parse_part(spelling: str, text: str) -> Part:
    name, colon, sizes_text = spelling.partition(":")
    component = _BY_NAME.get(name)
    if component is None:
        near = difflib.get_close_matches(name.lower(), _BY_NAME, n=2, cutoff=0.4)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known: {', '.join(_BY_NAME)}"
        raise StrategyError(f"unknown strategy {name!r} in {text!r}: {hint}")
    if not colon:
        return Part(component, component.defaults)
    if not component.arguments:
        raise StrategyError(f"strategy {text!r}: {name} takes no size; write {name!r}")
    form = f"{name}:{'x'.join(argument.upper() for argument in component.arguments)}"
    if not re.fullmatch(r"[0-9]+(x[0-9]+)*", sizes_text):
        raise StrategyError(f"strategy {text!r}: {sizes_text!r} is not a size; write {name!r} or {form}")
    sizes = tuple(int(size) for size in sizes_text.split("x"))
    if len(sizes) != len(component.arguments) or min(sizes) < 1:
        raise StrategyError(f"strategy {text!r}: {spelling!r} must be {form}, each size at least 1")
    return Part(component, sizes)


def _first_of_each_kind(text: str) -> str:
    kept: dict[Kind, str] = {}
    for spelling in text.split("+"):
        part = _parse_part(spelling.strip(), text)
        kept.setdefault(part.component.kind, str(part))
    return "+".join(kept[kind] for kind in _SPELLING_ORDER if kind in kept)
