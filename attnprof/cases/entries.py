"""The values inside an option: entries of a list, whole numbers, sizes and words, from text or from Python."""

from __future__ import annotations

import math
import operator
import os
import re
from collections.abc import Mapping
from itertools import islice
from typing import Any

from attnprof.errors import AttnprofError
from attnprof.text import shown

_MOST_DIGITS = 18  # of a whole number that a signed 64-bit integer holds
_MOST_ENTRIES = 100_000  # of a list


def entries_of(value: Any, name: str) -> list[Any]:
    """Split text at its commas, and the text in a list as well; return other entries as they are.

    Raises:
        AttnprofError: an entry is empty, or there are too many.
    """
    entries: list[Any] = []
    for entry in [value] if isinstance(value, str) or whole_number(value) is not None else listed(value, name):
        parts = [part.strip() for part in entry.split(",")] if isinstance(entry, str) else [entry]
        if isinstance(entry, str) and not all(parts):
            raise AttnprofError(f"{name}: {shown(entry)} has an empty entry; separate values by single commas")
        entries += parts
    if len(entries) > _MOST_ENTRIES:
        raise AttnprofError(f"{name}: {shown(value)} has {len(entries)} entries; give at most {_MOST_ENTRIES}")
    return entries


def word_of(value: Any) -> str | None:
    """Return a word of a command, or None if it is none."""
    try:
        word = os.fspath(value)
        return word if isinstance(word, str) and b"\0" not in os.fsencode(word) else None
    except (TypeError, ValueError):
        return None


def listed(value: Any, name: str) -> list[Any]:
    """Return the entries of a list, a tuple, an array or any other series of values.

    Raises:
        AttnprofError: it is no series, or has no end.
    """
    try:
        if isinstance(value, bytes | bytearray | memoryview | Mapping):
            raise TypeError
        entries = list(islice(iter(value), _MOST_ENTRIES + 1))
    except TypeError:
        raise AttnprofError(
            f"{name}: {shown(value)} has the wrong type; give text, a number, or a list of them"
        ) from None
    if len(entries) > _MOST_ENTRIES:
        raise AttnprofError(f"{name}: {shown(value)} has more than {_MOST_ENTRIES} entries; give fewer")
    return entries


def size_of(entry: Any, name: str) -> tuple[int, int]:
    """Return the height and width of `64`, `64x96` or a pair of numbers.

    Raises:
        AttnprofError: it is no size.
    """
    if isinstance(entry, str):
        match = re.fullmatch(r"([0-9]+)(?:[xX]([0-9]+))?", entry)
        sides: list[Any] = [match[1], match[2] or match[1]] if match else []
    else:
        side = whole_number(entry)
        sides = listed(entry, name) if side is None else [side, side]
    if len(sides) != 2:
        raise AttnprofError(f"{name}: {shown(entry)} is not a size; write 64 or 64x96")
    return positive(sides[0], name), positive(sides[1], name)


def positive(entry: Any, name: str) -> int:
    """Return a positive whole number, however it is written.

    Raises:
        AttnprofError: it is none, or too large.
    """
    number = whole_number(entry)
    if (number is not None and number >= 10**_MOST_DIGITS) or (
        isinstance(entry, str) and re.fullmatch(rf"[0-9]{{{_MOST_DIGITS + 1},}}", entry)
    ):
        raise AttnprofError(f"{name}: {shown(entry)} is too large; write a number of at most {_MOST_DIGITS} digits")
    if number is None or number < 1:
        raise AttnprofError(f"{name}: {shown(entry)} is not a positive whole number; write one, such as 8")
    return number


def whole_number(entry: Any, digits: int = _MOST_DIGITS) -> int | None:
    """Return a whole number, however it is written; None if it is something else, or text of more digits."""
    if isinstance(entry, str):
        return int(entry) if re.fullmatch(rf"-?[0-9]{{1,{digits}}}", entry) else None
    if isinstance(entry, bool):
        return None
    try:
        return operator.index(entry)
    except Exception:  # a type of the user's can raise anything
        return None


def number_of(entry: Any) -> float:
    """Return a number, however it is written; NaN if it is something else, infinity if it is too large."""
    try:
        return math.nan if isinstance(entry, bool | bytes | bytearray) else float(entry)
    except OverflowError:
        return math.inf
    except Exception:  # as above
        return math.nan


def digits_of(entry: Any) -> str:
    """Spell a whole number; what is none becomes a text that no pattern matches."""
    number = whole_number(entry)
    return "?" if number is None or not 0 <= number < 10**_MOST_DIGITS else str(number)


def bytes_text(value: Any, name: str) -> str:
    """Spell a memory size: text stays as it is, a number is one of bytes.

    Raises:
        AttnprofError: it is neither text nor a number of bytes.
    """
    if isinstance(value, str):
        return value
    count = whole_number(value)
    if count is None and isinstance(value, float) and value.is_integer():
        count = int(value)
    if count is None or not 0 <= count < 2**63:
        raise AttnprofError(f"{name}: {shown(value)} is not a memory size: write 12GB, or a number of bytes")
    return str(count)
