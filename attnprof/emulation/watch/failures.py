"""Allocations that fail: what was running, and who held the memory.

This wraps `torch.OutOfMemoryError.__init__`, the only place where the message of an error is available, and attaches an
observer to the caching allocator.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from .findings import Line, LineHolder, OutOfMemory
from .forward_places import node_places
from .holders import holders_of, live_blocks
from .journal import Workspace
from .notes import Notes
from .snapshot import snapshot
from .source_lines import Place, line_of, of_torch, places_of, program_places, rooted_in_torch

_STACK_LINES = 20


class Failures:
    """The failed allocations of one device.

    PyTorch calls an observer for every failure. It survives some of them, as when a cuDNN plan needs too large a
    workspace and the next plan is taken. Only one that becomes a `torch.OutOfMemoryError` counts as out of memory.

    Args:
        device: the device's index.
        steps: returns the number of finished optimizer steps.
        workspaces: returns the libraries' notes on their workspaces.
        notes: for errors of the observation itself.

    Attributes:
        failed: the number of failures.
        raised: the number of those that became an error.
        first: the first error.
    """

    def __init__(
        self, device: int, steps: Callable[[], int], workspaces: Callable[[], list[Workspace]], notes: Notes
    ) -> None:
        self.failed = self.raised = 0
        self.first: OutOfMemory | None = None
        self._device, self._steps, self._workspaces, self._notes = device, steps, workspaces, notes
        self._observes = self._pending = False
        self._latest: OutOfMemory | None = None

    def observe(self) -> None:
        """Start observing; CUDA must be initialised.

        Raises:
            RuntimeError: the allocator has no observers (cudaMallocAsync). Errors are noted nevertheless.
        """
        import torch

        error: Any = torch.OutOfMemoryError
        plain = error.__init__

        def initialise(instance: Any, *arguments: Any, **options: Any) -> None:
            plain(instance, *arguments, **options)
            with self._notes.record_errors("looking at an error"):
                self._note_error(str(instance), list(places_of(sys._getframe().f_back)))

        # C++ makes the exception after it has left the thread that failed, so only here is its message available.
        error.__init__ = initialise
        native: Any = torch._C
        native._cuda_attach_out_of_memory_observer(self._note_failure)
        self._observes = True

    def _note_failure(self, device: int, requested_bytes: int, _total_bytes: int, _free_bytes: int) -> None:
        self.failed += 1
        self._pending = True
        if self.first is None:
            with self._notes.record_errors("looking at an allocation that failed"):
                # In autograd's thread there is no frame beneath this one.
                places = list(places_of(sys._getframe().f_back))
                found = snapshot()
                blocks = live_blocks(found, found["device_traces"][self._device], self._workspaces())
                self._latest = self._describe(places, requested_bytes, holders_of(blocks))

    def _note_error(self, message: str, places: list[Place]) -> None:
        if not self._observes:
            self.failed += 1
            self._latest = self._describe(places, None, ())
        elif not self._pending:
            return
        self.raised += 1
        self._pending = False
        if self.first is None and self._latest is not None:
            self.first = replace(self._latest, message=message)

    def _describe(
        self, places: list[Place], requested_bytes: int | None, holders: tuple[LineHolder, ...]
    ) -> OutOfMemory:
        import torch

        phase, node, stack = _current_work(places)
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
            forward_line=line_of(node_places().place) if phase == "backward" else None,
        )


def _current_work(places: list[Place]) -> tuple[str, str, tuple[Line, ...]]:
    """Return the phase, the node of backward and the program's stack of a thread with these places."""
    if not places or rooted_in_torch(places):
        # This is autograd's thread. Its caller waits in backward(). Python that autograd calls, as for a checkpoint,
        # comes first.
        return "backward", _node(), _lines([*program_places(places), *program_places(_waiting_for_backward())])
    lines = _lines(program_places(places))
    if of_torch(places, "/autograd/graph.py"):
        return "backward", _node(), lines
    if of_torch(places, "/optim/optimizer.py"):
        return "optimizer step", "", lines
    return "forward" if of_torch(places, "/nn/modules/module.py") else "", "", lines


def _waiting_for_backward() -> list[Place]:
    """Return the stack of another thread that waits in backward(); empty if there is none."""
    own = threading.get_ident()
    for thread, frame in sys._current_frames().items():
        places = list(places_of(frame))
        if thread != own and of_torch(places, "/autograd/graph.py"):
            return places
    return []


def _node() -> str:
    """Return the name of the node that backward is computing in this thread; "" if there is none."""
    return node_places().node


def _lines(places: list[Place]) -> tuple[Line, ...]:
    lines = [line_of(place) for place in places[:_STACK_LINES]]
    return tuple(line for line in reversed(lines) if line is not None)
