"""Folding of text to a width: at spaces, else at the joints of a name, and inside a word only if nothing else helps."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rich.cells import cell_len

# After these a long name may go on in the next line. A point or comma between digits is no joint.
_JOINTS = re.compile(r"(?<=[+/=_])(?=.)|(?<=[.,])(?=\D)|(?<=\D[.,])(?=.)")


def folded(text: str, width: int) -> list[str]:
    """Return the lines of a text, none wider than `width`, from the first letter to the last.

    Args:
        text: one line of printable text.
        width: at least 1; a letter that is two columns wide is not split.
    """
    lines, line = [], ""
    for word in _words(text, width):
        if line and cell_len(line + word.rstrip()) > width:
            lines.append(line.rstrip())
            line = ""
        line += word
    return [*lines, line.rstrip()]


def longest_word(text: str) -> int:
    """Return the width below which a text cannot be folded without breaking a word."""
    return max((cell_len(piece) for word in text.split() for piece in _JOINTS.split(word)), default=0)


def _words(text: str, width: int) -> Iterator[str]:
    """Yield words with the spaces around them; a word that is too long in pieces."""
    for word in re.findall(r"\s*\S+\s*", text):
        if cell_len(word.rstrip()) <= width:
            yield word
            continue
        for piece in _JOINTS.split(word):
            yield from [piece] if cell_len(piece.rstrip()) <= width else _chopped(piece, width)


def _chopped(piece: str, width: int) -> Iterator[str]:
    """Yield parts of a piece that are as wide as a line at most, or one letter."""
    part = ""
    for letter in piece:
        if part and cell_len(part + letter) > width:
            yield part
            part = ""
        part += letter
    yield part
