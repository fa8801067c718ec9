"""The holders of memory: live blocks of the caching allocator, grouped by the line that allocated them."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .findings import BACKWARD, EARLIER, GRADIENTS, IN_BACKWARD, LineHolder
from .forward_places import NO_NODE, ForwardPlaces, forward_places
from .journal import Workspace
from .source_lines import Place, innermost, line_of, places_of_block, rooted_in_torch
from .source_trees import called_operator
from .workspaces import match_workspaces

_Owner = tuple[Place | None, Place | None, str, str, str]


@dataclass(frozen=True)
class Block:
    """A live block of the caching allocator.

    Attributes:
        address: where it is on the card.
        size_bytes: its size.
        places: the stack that allocated it, the innermost first; None if the history does not go back that far.
        known: False if another tensor may have its address by now.
        forward: the node of autograd's graph that allocated it, if any.
        workspace: a library's note on it, if it is a workspace.
    """

    address: int
    size_bytes: int
    places: Sequence[Place] | None
    known: bool = True
    forward: ForwardPlaces = NO_NODE
    workspace: Workspace | None = None


@dataclass
class _Group:
    """The blocks of one holder, summed up."""

    total_bytes: int = 0
    blocks: int = 0
    largest: Block | None = None

    def add(self, block: Block) -> None:
        self.total_bytes += block.size_bytes
        self.blocks += 1
        if self.largest is None or block.size_bytes > self.largest.size_bytes:
            self.largest = block


def live_blocks(
    snapshot: dict[str, Any], calls: Sequence[dict[str, Any]] = (), workspaces: Iterable[Workspace] = ()
) -> list[Block]:
    """Return the allocated blocks in `torch.cuda.memory._snapshot()`, without the free ones in the cache.

    Args:
        snapshot: the snapshot.
        calls: the device's history in it.
        workspaces: the libraries' notes on their workspaces.
    """
    last = {call["addr"]: index for index, call in enumerate(calls) if call["action"] == "alloc"}
    found = match_workspaces(calls, workspaces)
    return [
        Block(
            block["address"],
            block["size"],
            places_of_block(block),
            forward=forward_places(block.get("forward_frames", ())),
            workspace=(
                found.by_call.get(last[block["address"]])
                if block["address"] in last
                else found.older.get(block["address"])
            ),
        )
        for segment in snapshot["segments"]
        for block in segment["blocks"]
        if block["state"] == "active_allocated"
    ]


def holders_of(blocks: Iterable[Block]) -> tuple[LineHolder, ...]:
    """Group blocks by the lines that allocated them; the holder with the most memory comes first."""
    tensors, gradients = _tensors()
    groups: dict[_Owner, _Group] = {}
    for block in blocks:
        gradient = block.known and block.address in gradients
        groups.setdefault(_owner(block, gradient), _Group()).add(block)
    ranked = sorted(groups.items(), key=lambda item: -item[1].total_bytes)
    return tuple(_holder(owner, group, tensors) for owner, group in ranked)


def _owner(block: Block, gradient: bool) -> _Owner:
    """Return a block's line, its line in a package, its part, and its workspace, as in `LineHolder`."""
    if gradient:
        return None, None, GRADIENTS, "", ""
    if block.places is None:
        return None, None, EARLIER, "", ""
    workspace, computed = (block.workspace.library, block.workspace.operation) if block.workspace else ("", "")
    place, package = innermost(block.places)
    # Autograd computes in a thread of its own, whose stack has Python frames only if autograd calls Python.
    if block.places and not rooted_in_torch(block.places):
        return place, package, "", workspace, computed
    if place is not None:
        return place, package, IN_BACKWARD, workspace, computed
    return block.forward.place, block.forward.package_place, BACKWARD, workspace, computed


def _holder(owner: _Owner, group: _Group, tensors: dict[int, str]) -> LineHolder:
    place, package, part, workspace, computed = owner
    largest = group.largest
    assert largest is not None
    operation = largest.forward.node if part == BACKWARD else called_operator(largest.places) if workspace else ""
    return LineHolder(
        line_of(place),
        line_of(package),
        part,
        group.total_bytes,
        group.blocks,
        largest.size_bytes,
        tensors.get(largest.address, "") if largest.known else "",
        workspace,
        ", ".join(filter(None, (operation, computed))),
    )


def _tensors() -> tuple[dict[int, str], set[int]]:
    """Return the tensors that Python holds on the card, as text by address, and the addresses of gradients."""
    import torch

    # Subclasses are left out: fake tensors have no memory, and a program's own may run its code.
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
            # A view is left out: it would describe less than its block.
            if thing.untyped_storage().nbytes() == thing.numel() * thing.element_size():
                shapes.setdefault(thing.untyped_storage().data_ptr(), _shape(thing))
        except Exception:  # a tensor without storage, or half-made: torch has no one error for that
            continue
    return shapes, gradients


def _shape(tensor: Any) -> str:
    sizes = "x".join(map(str, tensor.shape)) or "scalar"
    return f"{sizes} {str(tensor.dtype).removeprefix('torch.')}"
