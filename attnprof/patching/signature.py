"""The arguments of a user's block, and the form of what it returns."""

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
    """A block is not called with one map, or does not return one; the message contains what it does instead."""


@dataclass(frozen=True)
class ForwardSignature:
    """The arguments of a block's forward, and what a patched block makes of them.

    Attributes:
        signature: the arguments without `self`.
        first: the name of the map's argument.
        asks_map: the name of the argument that asks for the attention map too; "" for none.
        ignored: arguments that forward never reads.
    """

    signature: inspect.Signature
    first: str
    asks_map: str
    ignored: frozenset[str]

    def call(self, forward: Callable[..., Any], x: Tensor, with_map: bool) -> Any:
        """Call a forward as a user would; arguments that are required but never read are None.

        Args:
            forward: the block's own, or another of its signature.
            x: the map, (B, C, H, W).
            with_map: the value for `asks_map`, if there is one.

        Returns:
            What forward returns.
        """
        others: dict[str, Any] = {
            name: None
            for name, parameter in self.signature.parameters.items()
            if name != self.first and parameter.default is parameter.empty and parameter.kind not in _VARIADIC
        }
        if self.asks_map:
            others[self.asks_map] = with_map
        return forward(x, **others)

    def read(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, bool]:
        """Find the map among the arguments of a call.

        Args:
            args: the call's positional arguments.
            kwargs: the call's keyword arguments.

        Returns:
            The map, and whether the attention map is asked for.

        Raises:
            TypeError: an argument is one that the block does not have, or that only the block's own forward supports.
        """
        if len(args) == 1 and not kwargs:
            return args[0], self.maps_by_default
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
                f"a patched block does not support {name}={value!r}: call attnprof.unpatch(model) first if you need it"
            )
        return given[self.first], bool(given.get(self.asks_map, self.maps_by_default))

    @property
    def maps_by_default(self) -> bool:
        """Whether the block returns its attention map if the argument that asks for it is not given."""
        return bool(self.asks_map and self.signature.parameters[self.asks_map].default)


@cache
def forward_signature(block_class: type[Any]) -> ForwardSignature:
    """Read the signature of a class's forward from its code.

    Args:
        block_class: the user's class.

    Raises:
        NotOneMapError: forward does not begin with a map, or needs other arguments too.
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
    """Return the names that the code of a function reads."""
    names: set[str] = set()
    for instruction in dis.get_instructions(forward):
        if "LOAD" in instruction.opname:
            # One instruction may load two names (LOAD_FAST_LOAD_FAST, Python 3.13).
            names |= set(instruction.argval) if isinstance(instruction.argval, tuple) else {str(instruction.argval)}
    # Code that calls `locals()` reads all its arguments.
    return names | set(inspect.signature(forward).parameters) if "locals" in names else names


@dataclass(frozen=True)
class ReturnForm:
    """The form of what a block returns.

    Attributes:
        order: whether it returns its output alone, or a pair with the attention map, in which order.
        kind: the type of the pair.
        columns: whether the map's columns are the queries, (B, M, N); its rows are if not, (B, N, M).
        without: whether there is None in place of the map, whatever the strategy.
    """

    order: Literal["out", "out, map", "map, out"] = "out"
    kind: Literal["tuple", "list"] = "tuple"
    columns: bool = False
    without: bool = False

    def pack(self, out: Tensor, attention: Tensor | None) -> Any:
        """Put an output and its attention map into this form.

        Args:
            out: the output, (B, C, H, W).
            attention: the map, (B, N, M); None if the strategy has none.

        Returns:
            The output, or a pair.
        """
        if self.order == "out":
            return out
        given = None if self.without else attention
        if given is not None and self.columns:
            given = given.transpose(1, 2)
        pair = (out, given) if self.order == "out, map" else (given, out)
        return pair if self.kind == "tuple" else list(pair)


def unpack(result: Any, shape: tuple[int, ...]) -> tuple[Tensor, Tensor | None, ReturnForm]:
    """Find the output and the attention map in what a block returned.

    Args:
        result: what it returned.
        shape: the shape of its input, (B, C, H, W).

    Returns:
        The output, the attention map in the block's own layout or None, and the form.

    Raises:
        NotOneMapError: the result is neither a map of that shape, nor a pair of one and another tensor.
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
