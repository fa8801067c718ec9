"""The lines of forward to which the nodes of autograd's graph belong.

A hook leaves in each new node the places that made it, where anomaly mode keeps its traceback too. The allocator's
history of torch 2.14 and later has them for each block that backward allocates. Other versions have no such hook.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from .notes import Notes
from .source_lines import Place, innermost, places_of

_KEY = "traceback_"  # PyAnomalyMetadata, torch/csrc/autograd/python_anomaly_mode.h
_NODE = "  Node "
_FRAME = re.compile(r'File "(?P<file>[^\n]*)", line (?P<line>\d+), in (?P<function>[^\n]*)')
_GRADIENT = "AccumulateGrad"  # adds up a parameter's gradient, and belongs to no line


@dataclass(frozen=True)
class ForwardPlaces:
    """The origin of a node of the graph.

    Attributes:
        node: its name, as `SoftmaxBackward0`; empty if unknown.
        place: the program's line; None if unknown.
        package_place: the line of a package that it led to, if any.
    """

    node: str = ""
    place: Place | None = None
    package_place: Place | None = None


NO_NODE = ForwardPlaces()


def mark_nodes(notes: Notes) -> None:
    """Leave its places in each node that this thread, or backward on its behalf, makes from now on."""
    import torch

    autograd: Any = torch._C._autograd  # type: ignore[attr-defined]
    push = getattr(autograd, "_push_node_creation_hook", None)
    if push is None:
        return

    def mark(node: Any) -> None:
        # An exception that is raised in here would end the program's operation.
        with notes.record_errors("finding the line of a node"):
            name = type(node).__name__
            if name != _GRADIENT and _KEY not in node.metadata:
                frame = sys._getframe().f_back
                # A node that backward makes (create_graph) belongs where the node does that backward is computing.
                found = node_places() if frame is None else None
                places = (found.place, found.package_place) if found else innermost(places_of(frame))
                node.metadata[_KEY] = _traceback(name, *places)

    push(mark)


def forward_places(traceback: Sequence[str]) -> ForwardPlaces:
    """Return the origin of a node from its traceback, which the hook or anomaly mode has left."""
    node = next((line.removeprefix(_NODE).strip() for line in traceback if line.startswith(_NODE)), "")
    found = [(one["file"], int(one["line"]), one["function"]) for text in traceback for one in _FRAME.finditer(text)]
    return ForwardPlaces(node, *innermost(reversed(found)))


def node_places() -> ForwardPlaces:
    """Return the origin of the node that backward is computing in this thread, if there is one."""
    import torch

    node: Any = torch._C._current_autograd_node()
    if node is None:
        return NO_NODE
    traceback = node.metadata.get(_KEY) or ()
    found = forward_places(traceback)
    return ForwardPlaces(node.name(), found.place, found.package_place)


@lru_cache(maxsize=4096)
def _traceback(name: str, place: Place | None, package_place: Place | None) -> list[str]:
    """Return lines like those of anomaly mode, the innermost last; equal nodes share them."""
    places = [one for one in (place, package_place) if one is not None]
    return [f"{_NODE}{name}\n", *(f'  File "{file}", line {line}, in {function}\n' for file, line, function in places)]
