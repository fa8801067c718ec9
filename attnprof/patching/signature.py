"""How a user's block is called, and what it hands back."""

from __future__ import annotations

import dis
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from torch import Tensor

_MAP_ARGUMENT = re.compile(r"(return|need|output|with|get|show|vis).*(att|map|weight)", re.IGNORECASE)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class NotOneMapError(Exception):
    """A block is not called with one map, or does not return one; the message says how."""


@dataclass(frozen=True)
class ForwardSignature:
    """The signature of a block's forward.

    Attributes:
        signature: without `self`.
        first: the name of the map's argument.
        asks_map: the name of the argument that asks for the attention map too; "" for none.
        ignored: arguments that forward never reads.
    """

    signature: inspect.Signature
    first: str
    asks_map: str
    ignored: frozenset[str]

    def call(self, forward: Callable[..., Any], x: Tensor, with_map: bool) -> Any:
        """Call as a user would; what is required but never read is None."""
        others: dict[str, Any] = {
            name: None
            for name, parameter in self.signature.parameters.items()
            if name != self.first and parameter.default is parameter.empty and parameter.kind not in _VARIADIC
        }
        if self.asks_map:
            others[self.asks_map] = with_map
        return forward(x, **others)

    def read(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, bool]:
        """The map, and whether the attention map is asked for.

        Raises:
            TypeError: an argument that the block does not have, or one that only the block's own forward heeds.
        """
        if len(args) == 1 and not kwargs:
            return args[0], self.by_default
        given = self.signature.bind(*args, **kwargs).arguments
        for name, value in given.items():
            parameter = self.signature.parameters[name]
            if name in (self.first, self.asks_map) or name in self.ignored:
                continue
            if parameter.kind in _VARIADIC:
                if not value:
                    continue
            elif value is parameter.default or (type(value) is type(parameter.default) and value == parameter.default):
                continue
            raise TypeError(
                f"a patched block does not heed {name}={value!r}: call attnprof.unpatch(model) where you need it"
            )
        return given[self.first], bool(given.get(self.asks_map, self.by_default))

    @property
    def by_default(self) -> bool:
        """Whether the attention map is returned without being asked for by an argument."""
        return bool(self.asks_map and self.signature.parameters[self.asks_map].default)


@cache
def forward_signature(block_class: type[Any]) -> ForwardSignature:
    """From the class's forward.

    Raises:
        NotOneMapError: it reads more arguments than a map, without a default.
    """
    forward = inspect.unwrap(block_class.forward)
    try:
        signature = inspect.signature(forward)
        read = _names_read(forward)
    except (TypeError, ValueError):
        raise NotOneMapError("its forward is not Python code") from None
    parameters = list(signature.parameters.values())[1:]
    if not parameters or parameters[0].kind in (*_VARIADIC, inspect.Parameter.KEYWORD_ONLY):
        raise NotOneMapError("its forward does not begin with a map")
    first, *others = parameters
    needed = [p.name for p in others if p.default is p.empty and p.kind not in _VARIADIC and p.name in read]
    if needed:
        raise NotOneMapError(f"its forward needs more than the map: {', '.join(needed)}")
    asks = [p.name for p in others if isinstance(p.default, bool) and p.name in read and _MAP_ARGUMENT.search(p.name)]
    return ForwardSignature(
        signature.replace(parameters=parameters),
        first.name,
        asks[0] if len(asks) == 1 else "",
        frozenset(p.name for p in others if p.name not in read),
    )


def _names_read(forward: Callable[..., Any]) -> set[str]:
    names: set[str] = set()
    for instruction in dis.get_instructions(forward):
        if "LOAD" in instruction.opname:
            # One instruction may load two names (LOAD_FAST_LOAD_FAST, Python 3.13).
            names |= set(instruction.argval) if isinstance(instruction.argval, tuple) else {str(instruction.argval)}
    # Code that takes all its names at once reads all.
    return names | set(inspect.signature(forward).parameters) if "locals" in names else names


@dataclass(frozen=True)
class ReturnForm:
    """The form of what a block hands back.

    Attributes:
        order: of output and attention map.
        kind: of the pair.
        columns: whether the map's columns are the queries, (B, M, N).
        without: whether there is None in the map's place, whatever the strategy.
    """

    order: Literal["out", "out, map", "map, out"] = "out"
    kind: Literal["tuple", "list"] = "tuple"
    columns: bool = False
    without: bool = False

    def pack(self, out: Tensor, attention: Tensor | None) -> Any:
        """In this form; (B, N, M) for the map."""
        if self.order == "out":
            return out
        given = None if self.without else attention
        if given is not None and self.columns:
            given = given.transpose(1, 2)
        pair = (out, given) if self.order == "out, map" else (given, out)
        return pair if self.kind == "tuple" else list(pair)


def unpack(result: Any, shape: tuple[int, ...]) -> tuple[Tensor, Tensor | None, ReturnForm]:
    """Output, attention map and their form; the map as the block has it.

    Raises:
        NotOneMapError: neither a map of that shape, nor a pair of one and another tensor.
    """
    if isinstance(result, Tensor):
        if tuple(result.shape) != shape:
            raise NotOneMapError(f"its output is not of its input's shape: {shape} gives {tuple(result.shape)}")
        return result, None, ReturnForm()
    if type(result) not in (tuple, list) or len(result) != 2:
        many = f" of {len(result)}" if isinstance(result, tuple | list | dict) else ""
        raise NotOneMapError(f"it returns a {type(result).__name__}{many}, not its output or a pair with the map")
    kind: Literal["tuple", "list"] = "tuple" if type(result) is tuple else "list"
    of_shape = [isinstance(part, Tensor) and tuple(part.shape) == shape for part in result]
    other = result[1] if of_shape[0] else result[0]
    if of_shape[0] == of_shape[1] or not isinstance(other, Tensor | None):
        raise NotOneMapError("it returns a pair, but not of its output and an attention map")
    if of_shape[0]:
        return result[0], other, ReturnForm("out, map", kind, without=other is None)
    return result[1], other, ReturnForm("map, out", kind, without=other is None)
