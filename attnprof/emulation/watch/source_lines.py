"""Which line of the program is at work: the innermost that is not torch's, the standard library's or a package's."""

from __future__ import annotations

import linecache
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache
from pathlib import Path
from types import FrameType
from typing import Any

from .findings import Line

# File, line, function.
Place = tuple[str, int, str]

_PACKAGES = ("/site-packages/", "/dist-packages/")
_WATCH = str(Path(__file__).parent) + "/"
_STANDARD = tuple(sysconfig.get_path(name) + "/" for name in ("stdlib", "platstdlib"))
# Console scripts: `sys.exit(main())` says nothing of the program, which is a package then.
_SCRIPTS = sysconfig.get_path("scripts") + "/"
_TYPED = ("<string>", "<stdin>")
_THEIR_OWN, _OF_A_PACKAGE, _NOT_THE_PROGRAM = 0, 1, 2


def places_of(frame: FrameType | None) -> Iterator[Place]:
    """The stack that ends in this frame, the innermost first."""
    while frame is not None:
        yield frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name
        frame = frame.f_back


def places_of_block(frames: Iterable[dict[str, Any]]) -> list[Place]:
    """The `frames` of a block in PyTorch's memory snapshot, the innermost first."""
    return [(frame["filename"], frame["line"], frame["name"]) for frame in frames]


def program_places(places: Iterable[Place]) -> list[Place]:
    """The program's own of a stack, the innermost first, after what they led to in a package.

    If it has none, those of packages but torch.
    """
    kinds: tuple[list[Place], list[Place], list[Place]] = ([], [], [])
    for place in places:
        kind = _kind(place[0])
        if kind == _THEIR_OWN and not kinds[kind]:
            kinds[kind].extend(kinds[_OF_A_PACKAGE][:1])
        kinds[kind].append(place)
    return kinds[_THEIR_OWN] or kinds[_OF_A_PACKAGE]


def innermost(places: Iterable[Place]) -> tuple[Place | None, Place | None]:
    """The program's, and that of a package which it led to; of a program that is a package, only the first."""
    packaged = None
    for place in places:
        kind = _kind(place[0])
        if kind == _THEIR_OWN:
            return place, packaged
        if kind == _OF_A_PACKAGE and packaged is None:
            packaged = place
    return packaged, None


def line_of(place: Place | None) -> Line | None:
    """With its text, where the file can be read."""
    if place is None:
        return None
    file, number, function = place
    return Line(file, number, function, linecache.getline(file, number).strip())


def of_torch(places: Sequence[Place], *parts: str) -> bool:
    """Whether a file of torch whose path ends so is on the stack."""
    return any(place[0].startswith(_torch_folder()) and place[0].endswith(parts) for place in places)


def rooted_in_torch(places: Sequence[Place]) -> bool:
    """Whether a stack begins in torch: then autograd called Python, as to recompute a checkpoint."""
    return bool(places) and places[-1][0].startswith(_torch_folder())


@cache
def _kind(file: str) -> int:
    if file.startswith("<"):
        return _THEIR_OWN if file in _TYPED else _NOT_THE_PROGRAM
    if file.startswith((_torch_folder(), _WATCH)):
        return _NOT_THE_PROGRAM
    if file.startswith(_SCRIPTS) or any(part in file for part in _PACKAGES):
        return _OF_A_PACKAGE
    return _NOT_THE_PROGRAM if file.startswith(_STANDARD) else _THEIR_OWN


@lru_cache(maxsize=1)
def _torch_folder() -> str:
    import torch

    return str(Path(torch.__file__).parent) + "/"
