"""Allocations that fail: what was running, and who held the memory."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from .findings import Line, LineHolder, OutOfMemory
from .holders import holders_of, live_blocks
from .notes import Notes
from .snapshot import snapshot
from .source_lines import Place, line_of, of_torch, places_of, program_places, rooted_in_torch

_STACK_LINES = 20


class Failures:
    """Of the caching allocator of one device.

    PyTorch tells an observer of every failure. Some it survives by itself, as when a cuDNN plan wants too large
    a workspace and the next is taken; only one that becomes a `torch.OutOfMemoryError` is out of memory.

    Attributes:
        failed, raised: how many of both kinds there were.
        first: the first that was raised.
    """

    def __init__(self, device: int, steps: Callable[[], int], notes: Notes) -> None:
        self.failed = self.raised = 0
        self.first: OutOfMemory | None = None
        self._device, self._steps, self._notes = device, steps, notes
        self._told = self._pending = False
        self._latest: OutOfMemory | None = None

    def observe(self) -> None:
        """Needs CUDA initialised.

        Raises:
            RuntimeError: an allocator without observers (cudaMallocAsync); an error is noticed all the same.
        """
        import torch

        error: Any = torch.OutOfMemoryError
        plain = error.__init__

        def initialise(instance: Any, *arguments: Any, **options: Any) -> None:
            plain(instance, *arguments, **options)
            with self._notes.instead("looking at an error"):
                self._became(str(instance), list(places_of(sys._getframe().f_back)))

        # C++ makes the exception, when it has left the thread that failed: here alone is its message.
        error.__init__ = initialise
        native: Any = torch._C
        native._cuda_attach_out_of_memory_observer(self._observed)
        self._told = True

    def _observed(self, device: int, requested_bytes: int, _total_bytes: int, _free_bytes: int) -> None:
        self.failed += 1
        self._pending = True
        if self.first is None:
            with self._notes.instead("looking at an allocation that failed"):
                # Autograd's thread has no frame beneath this one.
                places = list(places_of(sys._getframe().f_back))
                self._latest = self._look(places, requested_bytes, holders_of(live_blocks(snapshot())))

    def _became(self, message: str, places: list[Place]) -> None:
        if not self._told:
            self.failed += 1
            self._latest = self._look(places, None, ())
        elif not self._pending:
            return
        self.raised += 1
        self._pending = False
        if self.first is None and self._latest is not None:
            self.first = replace(self._latest, message=message)

    def _look(self, places: list[Place], requested_bytes: int | None, holders: tuple[LineHolder, ...]) -> OutOfMemory:
        import torch

        phase, node, stack = _at_work(places)
        stats = torch.cuda.memory_stats_as_nested_dict(self._device)
        return OutOfMemory(
            message="",
            requested_bytes=requested_bytes,
            steps_before=self._steps(),
            phase=phase,
            node=node,
            stack=stack,
            allocated_bytes=stats["allocated_bytes"]["all"]["current"],
            reserved_bytes=stats["reserved_bytes"]["all"]["current"],
            holders=holders,
        )


def _at_work(places: list[Place]) -> tuple[str, str, tuple[Line, ...]]:
    """Phase, node of backward and the program's stack, of the thread whose places these are."""
    if not places or rooted_in_torch(places):
        # Autograd's thread. Its caller waits in backward(); what it calls itself, such as a checkpoint, is within.
        return "backward", _node(), _lines([*program_places(places), *program_places(_waiting_for_backward())])
    lines = _lines(program_places(places))
    if of_torch(places, "/autograd/graph.py"):
        return "backward", _node(), lines
    if of_torch(places, "/optim/optimizer.py"):
        return "optimizer step", "", lines
    return "forward" if of_torch(places, "/nn/modules/module.py") else "", "", lines


def _waiting_for_backward() -> list[Place]:
    own = threading.get_ident()
    for thread, frame in sys._current_frames().items():
        places = list(places_of(frame))
        if thread != own and of_torch(places, "/autograd/graph.py"):
            return places
    return []


def _node() -> str:
    import torch

    node: Any = torch._C._current_autograd_node()
    return node.name() if node is not None else ""


def _lines(places: list[Place]) -> tuple[Line, ...]:
    lines = [line_of(place) for place in places[:_STACK_LINES]]
    return tuple(line for line in reversed(lines) if line is not None)
