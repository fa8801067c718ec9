"""A user's block with another forward: its class changes, and nothing else.

This is the change that `patch` makes in your model: `block.__class__` becomes a subclass of the block's own class that
is made on the fly. `unpatch` puts the original class back.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from torch import nn

from attnprof.attention.checkpoint_and_autocast import AttentionOutput
from attnprof.attention.strategy import Strategy
from attnprof.patching.formula import Formula
from attnprof.patching.signature import ForwardSignature, ReturnForm, forward_signature


@dataclass(frozen=True)
class PatchSpec:
    """The facts that a patched class knows beyond the user's own.

    Attributes:
        formula: what the block computes.
        strategy: how it is computed.
        returned: the form of what it returns, first without asking for its map, then with asking.
    """

    formula: Formula
    strategy: Strategy
    returned: tuple[ReturnForm, ReturnForm]


class PatchedBlock(nn.Module):
    """A mixin that stands in front of the user's class in the class of a patched block.

    Instances hold nothing from it: `state_dict`, hooks, `.to()`, copies and replicas work on what the user's class put
    there. Only `copy` and `pickle` need help to rebuild an instance, since its class cannot be imported by a name.
    """

    patch_spec: ClassVar[PatchSpec]
    forward_signature: ClassVar[ForwardSignature]
    implementation: ClassVar[Callable[..., AttentionOutput]]
    original: ClassVar[type[Any]]

    def __init_subclass__(cls) -> None:
        """Keep patched classes out of any registry that the user's class makes of its subclasses."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute what the user's forward computes, from the same arguments.

        Args:
            *args: the map (B, C, H, W) first.
            **kwargs: others that the user's forward takes.

        Returns:
            What the user's forward returns; None in place of the attention map if the strategy has none.

        Raises:
            TypeError: an argument is one that only the user's forward supports.
            ValueError: the map is not of (B, C, H, W).
        """
        x, with_map = self.forward_signature.read(args, kwargs)
        if x.dim() != 4 or x.shape[1] != self.patch_spec.formula.in_channels:
            raise ValueError(
                f"a patched block takes maps of shape (B, {self.patch_spec.formula.in_channels}, H, W), got "
                f"{tuple(x.shape)}: call attnprof.unpatch(model) first if you need others"
            )
        out, attention = self.patch_spec.formula.attend(self, x, self.patch_spec.strategy, self.implementation)
        return self.patch_spec.returned[with_map].pack(out, attention)

    def extra_repr(self) -> str:
        """Return the user's own text and the strategy."""
        own: str = super().extra_repr()  # type: ignore[misc]
        return ", ".join(filter(None, (own, f"strategy={str(self.patch_spec.strategy)!r}")))

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Describe the instance as one of the user's class that is patched again after it is rebuilt."""
        make, args, *rest = super().__reduce_ex__(protocol)  # type: ignore[misc,str-unpack]
        args = tuple(self.original if arg is type(self) else arg for arg in args)
        return (_rebuild, (make, args, self.patch_spec), *rest)


@cache
def patched_class(original: type[Any], spec: PatchSpec) -> type[Any]:
    """Return the one patched class for blocks of a class that compute the same.

    Args:
        original: the user's class.
        spec: what the patched class computes, and how.

    Raises:
        TypeError: the user's class allows no subclass.
    """
    body = {
        "__module__": original.__module__,
        "__doc__": original.__doc__,
        "patch_spec": spec,
        "forward_signature": forward_signature(original),  # type: ignore[arg-type] # mypy has no hash for type[Any]
        "implementation": staticmethod(spec.strategy.implementation()),
        "original": original,
    }
    made: type[Any] = types.new_class(
        f"Patched{original.__name__}", (PatchedBlock, original), exec_body=lambda namespace: namespace.update(body)
    )
    return made


def original_class(block: nn.Module) -> Any:
    """Return the user's own class of a block, patched or not (a type, which mypy does not take for hashable)."""
    return type(block).original if isinstance(block, PatchedBlock) else type(block)


def was_changed_since(block: nn.Module) -> bool:
    """Return whether something else made a subclass of the patched class, as FSDP and parametrizations do."""
    return isinstance(block, PatchedBlock) and "patch_spec" not in vars(type(block))


def _rebuild(make: Callable[..., nn.Module], args: tuple[Any, ...], spec: PatchSpec) -> nn.Module:
    block = make(*args)
    block.__class__ = patched_class(original_class(block), spec)
    return block
