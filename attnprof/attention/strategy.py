"""The attention strategies and modifiers by name: how they compose, and what each promises.

This file contains names and facts only and imports no torch, so that plans and help texts are quick. To add a strategy:
write its file in `strategies` and add one entry to `COMPONENTS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Literal

from attnprof.attention.did_you_mean import did_you_mean, quoted

_LONGEST_SPELLING = 120  # of all parts, with the largest sizes

Kind = Literal["attention", "keys", "wrapper", "precision"]


class StrategyError(ValueError):
    """A strategy is unknown or impossible; the message contains the reason and the nearest valid spelling."""


@dataclass(frozen=True)
class Component:
    """A strategy or modifier that can be a part of a strategy's spelling.

    Attributes:
        name: the spelling, without arguments.
        kind: `attention` computes the block, `keys` changes what is attended to, `wrapper` changes when the block is
            computed, `precision` changes in which dtype. A strategy has one attention and at most one of each other
            kind.
        memory: how the memory of a step grows with N = H * W, in forward and in training. For a component that is not
            an attention: what it does to the memory of the attention that it is joined to.
        summary: one line for a listing.
        runs: where it runs, and what it needs there.
        arguments: names of the optional sizes after the colon (`online:512x2048`).
        defaults: the values of absent arguments that have a fixed one.
        implementation: `module:function` under `attnprof.attention.strategies` (attentions only).
        has_map: whether the N x N attention map exists and can be returned.
        approximation: the difference from the plain block in the workload's dtype; "" if exact.
        any_keys: whether it can attend to pooled keys (attentions only).
    """

    name: str
    kind: Kind
    memory: tuple[str, str]
    summary: str
    runs: str
    arguments: tuple[str, ...] = ()
    defaults: tuple[int, ...] = ()
    implementation: str = ""
    has_map: bool = False
    approximation: str = ""
    any_keys: bool = True

    @property
    def sizes(self) -> str:
        """The sizes that may follow the colon, as `QUERIESxKEYS`; "" for none."""
        return "x".join(argument.upper() for argument in self.arguments)

    @property
    def spelling(self) -> str:
        """The spelling with its optional part in brackets: `online[:QUERIESxKEYS]`."""
        return f"{self.name}[:{self.sizes}]" if self.arguments else self.name


_QUADRATIC, _LINEAR, _FEWER_KEYS = ("N^2", "N^2"), ("N", "N"), ("/ FACTOR^2", "/ FACTOR^2")
# Grows with N * (H + W).
_OF_LINES = ("N^1.5", "N^1.5")
# For a step of the block alone. A checkpoint saves memory that the block would keep while the rest of a network runs.
_SAME_PEAK = ("same", "same peak")
# Half precision halves all of naive's memory, but none of what a float32 softmax needs.
_HALF_AT_MOST = ("up to / 2", "up to / 2")

_ANOTHER = "another attention"

_ANY = "CPU and CUDA, any dtype"
_TILES = f"{_ANY}; in half precision the softmax of a tile is float32"
# Sources, in ATen native/transformers: sdp_utils_cpp.h (check_last_dim_stride_equals_1_dense), for the CPU
# sdp_utils_cpp.cpp, and cuda/sdp_utils.cpp (check_flash_attention_hardware_support, check_prefer_cudnn_attention, and
# the dtypes of can_use_mem_efficient_attention).
_MATH = (
    "CPU and CUDA: the math kernel in any dtype, half precision computed in float32; a channels_last map gets "
    "efficient on CUDA"
)
_FUSED = (
    "CPU: flash. CUDA: efficient in fp32; fp16 and bf16 get flash from compute capability 8.0 (9.0 and 10.0: or "
    "cuDNN), below it efficient (fp16) and math, N^2 (bf16); fp64 gets math, N^2"
)

COMPONENTS: tuple[Component, ...] = (
    Component(
        "naive",
        kind="attention",
        memory=_QUADRATIC,
        summary="plain two-matrix form, as everyone writes it",
        runs=_ANY,
        implementation="naive:naive",
        has_map=True,
    ),
    Component(
        "chunked",
        kind="attention",
        memory=_LINEAR,
        summary="query chunks; backward recomputes the weights",
        runs=_TILES,
        arguments=("queries",),
        implementation="tiled:chunked",
    ),
    Component(
        "online",
        kind="attention",
        memory=_LINEAR,
        summary="query and key tiles (online softmax)",
        runs=_TILES,
        arguments=("queries", "keys"),
        implementation="tiled:online",
    ),
    Component(
        "sdpa",
        kind="attention",
        memory=_QUADRATIC,
        summary="scaled_dot_product_attention on the conv outputs as they are",
        runs=_MATH,
        implementation="sdpa:sdpa",
    ),
    Component(
        "sdpa-pad",
        kind="attention",
        memory=_LINEAR,
        summary="query and key zero-padded so that the fused kernels run",
        runs=_FUSED,
        implementation="sdpa:sdpa_pad",
    ),
    Component(
        "sdpa-split",
        kind="attention",
        memory=_LINEAR,
        summary="value columns as several heads so that the fused kernels run",
        runs=_FUSED,
        implementation="sdpa:sdpa_split",
    ),
    Component(
        "criss-cross",
        kind="attention",
        memory=_OF_LINES,
        summary="each position to its row and column, twice (CCNet)",
        runs=_ANY,
        implementation="rows_and_columns:criss_cross",
        approximation=_ANOTHER,
        any_keys=False,
    ),
    Component(
        "axial",
        kind="attention",
        memory=_OF_LINES,
        summary="within each column, then within each row",
        runs=_ANY,
        implementation="rows_and_columns:axial",
        approximation=_ANOTHER,
        any_keys=False,
    ),
    Component(
        "linear",
        kind="attention",
        memory=_LINEAR,
        summary="softmax of query and of key apart, key and value multiplied first (efficient attention)",
        runs=_ANY,
        implementation="linear:linear",
        approximation=_ANOTHER,
    ),
    Component(
        "global-context",
        kind="attention",
        memory=_LINEAR,
        summary="one attention for all positions, by the mean query (after GCNet)",
        runs=_ANY,
        implementation="linear:global_context",
        approximation=_ANOTHER,
    ),
    Component(
        "pooled",
        kind="keys",
        memory=_FEWER_KEYS,
        summary="keys and values max-pooled, as the official SAGAN code does",
        runs=_ANY,
        arguments=("factor",),
        defaults=(2,),
        approximation="pooled keys",
    ),
    Component(
        "checkpoint",
        kind="wrapper",
        memory=_SAME_PEAK,
        summary="torch.utils.checkpoint: keeps the input alone until backward, which computes the block again",
        runs=_ANY,
    ),
    Component(
        "fp16",
        kind="precision",
        memory=_HALF_AT_MOST,
        summary="module and input in float16",
        runs="CPU and CUDA; tensor cores from compute capability 7.0",
        approximation="fp16",
    ),
    Component(
        "bf16",
        kind="precision",
        memory=_HALF_AT_MOST,
        summary="module and input in bfloat16",
        runs="CPU and CUDA from compute capability 8.0; below it CUDA converts, and is slow",
        approximation="bf16",
    ),
    Component(
        "amp",
        kind="precision",
        memory=_HALF_AT_MOST,
        summary="autocast around the block",
        runs="CUDA: float16 with a float32 softmax (N^2 hardly shrinks). CPU: bfloat16",
        approximation="autocast",
    ),
)


_BY_NAME = {component.name: component for component in COMPONENTS}
_SPELLING_ORDER: tuple[Kind, ...] = ("keys", "attention", "wrapper", "precision")


@dataclass(frozen=True)
class StrategyPart:
    """A component of a strategy, with the sizes that were given for it."""

    component: Component
    sizes: tuple[int, ...] = ()

    def __str__(self) -> str:
        """Return the canonical spelling of this part."""
        sizes = "x".join(map(str, self.sizes))
        return f"{self.component.name}:{sizes}" if sizes else self.component.name


@dataclass(frozen=True)
class Strategy:
    """A composition such as `pooled:2+sdpa-pad+fp16`; `str()` gives its one canonical spelling."""

    attention: StrategyPart
    keys: StrategyPart | None = None
    wrapper: StrategyPart | None = None
    precision: StrategyPart | None = None

    @property
    def parts(self) -> tuple[StrategyPart, ...]:
        """The parts in the order of the canonical spelling."""
        parts = (getattr(self, kind) for kind in _SPELLING_ORDER)
        return tuple(part for part in parts if part is not None)

    def __str__(self) -> str:
        """Return the canonical spelling; `naive` is left out beside pooled keys, which mean it."""
        shown = [part for part in self.parts if not (self.keys and part.component.name == "naive")]
        return "+".join(map(str, shown))

    @property
    def approximation(self) -> str:
        """The differences from the plain block in the workload's dtype; "" if exact."""
        return ", ".join(p.component.approximation for p in self.parts if p.component.approximation)

    @property
    def exact(self) -> bool:
        """Whether the strategy computes the plain block's function, up to rounding in the workload's dtype."""
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

    @property
    def another_attention(self) -> bool:
        """Whether the attention is another function than the plain block's, apart from keys and precision."""
        return bool(self.attention.component.approximation)

    def definition(self) -> Strategy:
        """Return the strategy that defines the function, and so the useful FLOPs: its plain form if it has one."""
        return Strategy(self.attention if self.another_attention else StrategyPart(_BY_NAME["naive"]), keys=self.keys)

    def implementation(self) -> Callable[..., Any]:
        """Return the attention's function; this imports its module, and so torch."""
        module, _, function = self.attention.component.implementation.partition(":")
        return getattr(import_module(f"attnprof.attention.strategies.{module}"), function)  # type: ignore[no-any-return]


@cache
def parse_strategy(text: str) -> Strategy:
    """Parse a spelling such as `chunked:1024+checkpoint`, with its parts in any order.

    A spelling without an attention means `naive` (`pooled`, `fp16`).

    Args:
        text: the spelling.

    Returns:
        The strategy; `str()` gives its canonical spelling.

    Raises:
        StrategyError: a name is unknown, a size is malformed, or two parts exclude one another.
    """
    if not isinstance(text, str) or len(text) > _LONGEST_SPELLING:
        raise StrategyError(f"strategy {quoted(text)}: no strategy is spelled like this; write sdpa-pad, for instance")
    found: dict[Kind, StrategyPart] = {}
    for spelling in text.strip().split("+"):
        part = _parse_part(spelling.strip(), text)
        kind = part.component.kind
        if kind in found:
            raise StrategyError(
                f"strategy {quoted(text)}: {found[kind]} and {part} exclude one another; nearest valid: "
                f"{_keep_first_of_each_kind(text)!r}"
            )
        found[kind] = part
    attention = found.setdefault("attention", StrategyPart(_BY_NAME["naive"]))
    if "keys" in found and not attention.component.any_keys:
        keys = found.pop("keys")
        raise StrategyError(
            f"strategy {quoted(text)}: {attention} attends along rows and columns, which {keys} does not keep; "
            f"nearest valid: {str(Strategy(**found))!r}"
        )
    return Strategy(**found)


def _parse_part(spelling: str, text: str) -> StrategyPart:
    name, colon, sizes_text = spelling.partition(":")
    component = _BY_NAME.get(name)
    if component is None:
        within = "" if name == text.strip() else f" in {quoted(text)}"
        raise StrategyError(f"unknown strategy {quoted(name)}{within}: {did_you_mean(name, _BY_NAME)}")
    if not colon:
        return StrategyPart(component, component.defaults)
    if not component.arguments:
        raise StrategyError(f"strategy {quoted(text)}: {name} takes no size; write {name!r}")
    form = f"{name}:{component.sizes}"
    if not re.fullmatch(r"[0-9]{1,18}(x[0-9]{1,18})*", sizes_text):
        raise StrategyError(f"strategy {quoted(text)}: {quoted(sizes_text)} is not a size; write {name!r} or {form}")
    sizes = tuple(int(size) for size in sizes_text.split("x"))
    if len(sizes) != len(component.arguments) or min(sizes) < 1:
        raise StrategyError(f"strategy {quoted(text)}: {quoted(spelling)} must be {form}, each size at least 1")
    return StrategyPart(component, sizes)


def _keep_first_of_each_kind(text: str) -> str:
    kept: dict[Kind, str] = {}
    for spelling in text.split("+"):
        part = _parse_part(spelling.strip(), text)
        kept.setdefault(part.component.kind, str(part))
    return "+".join(kept[kind] for kind in _SPELLING_ORDER if kind in kept)
