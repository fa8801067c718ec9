"""A line of a program as text."""

from __future__ import annotations

from pathlib import Path

from attnprof.emulation.watch.findings import Line

_PACKAGES = ("site-packages", "dist-packages")


def line_text(line: Line) -> str:
    """Return the place of a line and its source."""
    return f"{place_text(line)}  {line.source}".rstrip()


def place_text(line: Line) -> str:
    """Return a line's file, from the current folder or the folder of packages on, and its number."""
    path = Path(line.file)
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    packages = [place for place, part in enumerate(path.parts) if part in _PACKAGES]
    if packages:
        path = Path(*path.parts[packages[-1] + 1 :])
    return f"{path}:{line.line}"
