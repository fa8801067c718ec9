"""A user's block with another forward: its class changes, and nothing else of it."""

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
    """All that a patched class knows beyond the user's own.

    Attributes:
        formula: what the block computes.
        strategy: how.
        returned: the form of what it hands back, without and with its map being asked for.
    """

    formula: Formula
    strategy: Strategy
    returned: tuple[ReturnForm, ReturnForm]


class PatchedBlock(nn.Module):
    """Goes in front of the user's class in the class of a patched block.

    Instances hold nothing of it: `state_dict`, hooks, `.to()`, copies and replicas work on what the user's class put
    there. Only how an instance is rebuilt, by `copy` and `pickle`, has to be said, since the class has no name to be
    imported by.
    """

    patch_spec: ClassVar[PatchSpec]
    forward_signature: ClassVar[ForwardSignature]
    implementation: ClassVar[Callable[..., AttentionOutput]]
    original: ClassVar[type[Any]]

    def __init_subclass__(cls) -> None:
        """No registry of the user's takes a patched class for one more of theirs."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As the user's, of a map (B, C, H, W); None for the attention map where the strategy has none.

        Raises:
            TypeError: an argument that only the user's forward heeds.
            ValueError: the map is not of (B, C, H, W).
        """
        x, with_map = self.forward_signature.read(args, kwargs)
        if x.dim() != 4 or x.shape[1] != self.patch_spec.formula.in_channels:
            raise ValueError(
                f"a patched block takes maps of shape (B, {self.patch_spec.formula.in_channels}, H, W), got "
                f"{tuple(x.shape)}: call attnprof.unpatch(model) for others"
            )
        out, attention = self.patch_spec.formula.attend(self, x, self.patch_spec.strategy, self.implementation)
        return self.patch_spec.returned[with_map].pack(out, attention)

    def extra_repr(self) -> str:
        own: str = super().extra_repr()  # type: ignore[misc]
        return ", ".join(filter(None, (own, f"strategy={str(self.patch_spec.strategy)!r}")))

    def __reduce_ex__(self, protocol: Any) -> Any:
        make, args, *rest = super().__reduce_ex__(protocol)  # type: ignore[misc,str-unpack]
        args = tuple(self.original if arg is type(self) else arg for arg in args)
        return (_rebuild, (make, args, self.patch_spec), *rest)


@cache
def patched_class(original: type[Any], spec: PatchSpec) -> type[Any]:
    """The one class for blocks of a class that mean the same.

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
    """The user's own class, patched or not; a type, which mypy does not take for hashable."""
    return type(block).original if isinstance(block, PatchedBlock) else type(block)


def changed_since(block: nn.Module) -> bool:
    """Whether something else made a subclass of the patched class, as FSDP and parametrizations do."""
    return isinstance(block, PatchedBlock) and "patch_spec" not in vars(type(block))


def _rebuild(make: Callable[..., nn.Module], args: tuple[Any, ...], spec: PatchSpec) -> nn.Module:
    block = make(*args)
    block.__class__ = patched_class(original_class(block), spec)
    return block
