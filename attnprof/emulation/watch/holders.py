"""Who holds the memory: live blocks of the caching allocator, grouped by the line that allocated them."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .findings import BACKWARD, EARLIER, GRADIENTS, LineHolder
from .source_lines import Place, innermost, line_of, places_of_block, rooted_in_torch


@dataclass(frozen=True)
class Block:
    """A live block: where it is, its size, and the stack that allocated it (None: not remembered).

    `known` is False where another tensor may have its address by now.
    """

    address: int
    size_bytes: int
    places: Sequence[Place] | None
    known: bool = True


@dataclass
class _Group:
    total_bytes: int = 0
    blocks: int = 0
    largest: Block | None = None

    def add(self, block: Block) -> None:
        self.total_bytes += block.size_bytes
        self.blocks += 1
        if self.largest is None or block.size_bytes > self.largest.size_bytes:
            self.largest = block


def live_blocks(snapshot: dict[str, Any]) -> list[Block]:
    """Of `torch.cuda.memory._snapshot()`: what is allocated, whatever the cache holds besides."""
    return [
        Block(block["address"], block["size"], places_of_block(block["frames"]))
        for segment in snapshot["segments"]
        for block in segment["blocks"]
        if block["state"] == "active_allocated"
    ]


def holders_of(blocks: Iterable[Block]) -> tuple[LineHolder, ...]:
    """The largest first."""
    tensors, gradients = _tensors()
    groups: dict[tuple[Place | None, Place | None, str], _Group] = {}
    for block in blocks:
        gradient = block.known and block.address in gradients
        groups.setdefault(_owner(block, gradient), _Group()).add(block)
    ranked = sorted(groups.items(), key=lambda item: -item[1].total_bytes)
    return tuple(_holder(*owner, group, tensors) for owner, group in ranked)


def _owner(block: Block, gradient: bool) -> tuple[Place | None, Place | None, str]:
    """As `LineHolder` has them: line, line of a package, part."""
    if gradient:
        return None, None, GRADIENTS
    if block.places is None:
        return None, None, EARLIER
    # Autograd computes on a thread of its own, where there is Python only if autograd calls it.
    backward = not block.places or rooted_in_torch(block.places)
    return *innermost(block.places), BACKWARD if backward else ""


def _holder(
    place: Place | None, package: Place | None, part: str, group: _Group, tensors: dict[int, str]
) -> LineHolder:
    largest = group.largest
    assert largest is not None
    tensor = tensors.get(largest.address, "") if largest.known else ""
    return LineHolder(
        line_of(place), line_of(package), part, group.total_bytes, group.blocks, largest.size_bytes, tensor
    )


def _tensors() -> tuple[dict[int, str], set[int]]:
    """What Python holds on the card, by address: shapes and dtypes, and which are parameters' gradients."""
    import torch

    # Not their subclasses: fake tensors have no memory, and those of a program may run its code.
    kinds = (torch.Tensor, torch.nn.Parameter)
    shapes: dict[int, str] = {}
    gradients: set[int] = set()
    for thing in gc.get_objects():
        if type(thing) not in kinds:
            continue
        try:
            if thing.device.type != "cuda":
                continue
            gradient = thing.grad if thing.is_leaf else None
            if gradient is not None:
                gradients.add(gradient.untyped_storage().data_ptr())
                shapes.setdefault(gradient.untyped_storage().data_ptr(), _shape(gradient))
            # A view would describe less than its block.
            if thing.untyped_storage().nbytes() == thing.numel() * thing.element_size():
                shapes.setdefault(thing.untyped_storage().data_ptr(), _shape(thing))
        except Exception:  # of one without a storage, or half-made: torch has no one name for that
            continue
    return shapes, gradients


def _shape(tensor: Any) -> str:
    sizes = "x".join(map(str, tensor.shape)) or "scalar"
    return f"{sizes} {str(tensor.dtype).removeprefix('torch.')}"
