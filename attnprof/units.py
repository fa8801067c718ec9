"""Sizes and durations as people write and read them; inside attnprof they are integer bytes and seconds."""

from __future__ import annotations

import re
from decimal import Decimal

from attnprof.errors import AttnprofError
from attnprof.text import shown

_FACTORS = {
    "": 1, "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "pb": 10**15, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40, "pib": 2**50,
}  # fmt: skip
_LARGEST_BYTES = 2**63 - 1
_LONGEST_SECONDS = 365 * 24 * 3600


def parse_bytes(text: str) -> int:
    """Read a memory size: `"12GB"` is 12_000_000_000, `"12GiB"` is 12 * 2**30 (IEC 80000-13), `"4096"` is 4096.

    Raises:
        AttnprofError: the text is not a positive size.
    """
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]*)\s*", text)
    factor = _FACTORS.get(match[2].lower()) if match else None
    size = Decimal(match[1]) * factor if match and factor else Decimal(0)
    if size < 1:
        raise AttnprofError(f"{shown(text)} is not a memory size: write a number and a unit, such as 12GB or 800MiB")
    if size > _LARGEST_BYTES:
        raise AttnprofError(f"{shown(text)} is more than any memory: write at most 8000PiB, such as 12GB or 800MiB")
    return int(size)


def format_bytes(count: int | None) -> str:
    """Spell a size with three significant digits in binary units (`1.25 GiB`), as PyTorch's own messages use."""
    if count is None:
        return "-"
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(size) < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{_three_digits(size)} {unit}"
        size /= 1024
    return f"{_three_digits(size)} PiB"


def format_seconds(seconds: float | None) -> str:
    """Spell a time with three significant digits in us, ms or s (`12.3 ms`)."""
    if seconds is None:
        return "-"
    for factor, unit in ((1e6, "us"), (1e3, "ms")):
        if seconds * factor < 1000:
            return f"{_three_digits(seconds * factor)} {unit}"
    return f"{_three_digits(seconds)} s"


def format_duration(seconds: float) -> str:
    """Spell a duration in whole seconds, minutes or hours, for estimates (`45 s`, `3 min 20 s`); at most a year."""
    if not seconds < _LONGEST_SECONDS:
        return "a year or more"
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _three_digits(number: float) -> str:
    decimals = 2 if abs(number) < 9.995 else 1 if abs(number) < 99.95 else 0
    return f"{number:.{decimals}f}"
