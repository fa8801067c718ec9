"""The line of the program that is at work: the innermost outside of torch, the standard library and packages."""

from __future__ import annotations

import linecache
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any

from .findings import Line

Place = tuple[str, int, str]
"""A file's path, a line number, and a function's name."""

_PACKAGES = ("/site-packages/", "/dist-packages/")
_WATCH = str(Path(__file__).parent) + "/"
_STANDARD = tuple(sysconfig.get_path(name) + "/" for name in ("stdlib", "platstdlib"))
# A console script's own line (`sys.exit(main())`) is skipped: the program is the package that it calls.
_SCRIPTS = sysconfig.get_path("scripts") + "/"
_TYPED = ("<string>", "<stdin>")
_PROGRAM, _PACKAGE, _NEITHER = 0, 1, 2  # kinds of files


def places_of(frame: FrameType | None) -> Iterator[Place]:
    """Yield the places of the stack that ends in this frame, the innermost first."""
    while frame is not None:
        yield frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name
        frame = frame.f_back


def places_of_block(block: dict[str, Any]) -> list[Place]:
    """Return the places at which a block, or a call, in PyTorch's memory snapshot was made, the innermost first."""
    return [(frame["filename"], frame["line"], frame["name"]) for frame in block.get("frames", ())]


def program_places(places: Iterable[Place]) -> list[Place]:
    """Select the program's own places of a stack.

    Args:
        places: the stack, the innermost first.

    Returns:
        The place in a package that the program's code led to, if any, then the program's own places, the innermost
        first. If the stack has none of the program's, the places in packages other than torch.
    """
    kinds: tuple[list[Place], list[Place], list[Place]] = ([], [], [])
    for place in places:
        kind = _kind(place[0])
        if kind == _PROGRAM and not kinds[kind]:
            kinds[kind].extend(kinds[_PACKAGE][:1])
        kinds[kind].append(place)
    return kinds[_PROGRAM] or kinds[_PACKAGE]


def innermost(places: Iterable[Place]) -> tuple[Place | None, Place | None]:
    """Find the innermost place of the program in a stack.

    Args:
        places: the stack, the innermost first.

    Returns:
        The program's innermost place, and the innermost place in a package that it led to. For a program that is itself
        a package, its place and None. None twice if the stack has neither.
    """
    packaged = None
    for place in places:
        kind = _kind(place[0])
        if kind == _PROGRAM:
            return place, packaged
        if kind == _PACKAGE and packaged is None:
            packaged = place
    return packaged, None


def torch_place(places: Iterable[Place]) -> Place | None:
    """Return the innermost place of a stack if it is in torch, else None."""
    place = next(iter(places), None)
    return place if place is not None and place[0].startswith(_torch_folder()) else None


def line_of(place: Place | None) -> Line | None:
    """Return a place as a line with its text, if the file can be read; None for no place."""
    if place is None:
        return None
    file, number, function = place
    return Line(file, number, function, linecache.getline(file, number).strip())


def of_torch(places: Sequence[Place], *parts: str) -> bool:
    """Return whether the stack contains a file of torch whose path ends with one of these parts."""
    return any(place[0].startswith(_torch_folder()) and place[0].endswith(parts) for place in places)


def rooted_in_torch(places: Sequence[Place]) -> bool:
    """Return whether a stack begins in torch: then autograd called Python, for example to recompute a checkpoint."""
    return bool(places) and places[-1][0].startswith(_torch_folder())


@cache
def _kind(file: str) -> int:
    if file.startswith("<"):
        return _PROGRAM if file in _TYPED else _NEITHER
    if file.startswith((_torch_folder(), _WATCH)):
        return _NEITHER
    if file.startswith(_SCRIPTS) or any(part in file for part in _PACKAGES):
        return _PACKAGE
    return _NEITHER if file.startswith(_STANDARD) else _PROGRAM


@lru_cache(maxsize=1)
def _torch_folder() -> str:
    # A program that fails before it imports torch may have none.
    spec = find_spec("torch")
    return f"{Path(spec.origin).parent}/" if spec is not None and spec.origin else "/no torch/"
