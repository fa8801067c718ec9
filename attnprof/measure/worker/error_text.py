"""The text of an exception, which may be the work of a user's code: endless, or not to be had at all."""

from __future__ import annotations

_LONGEST_TEXT, _LONGEST_LINE = 10_000, 500  # letters


def text_of(error: BaseException) -> str:
    """Return the text of an exception, cut if it is very long; "" if asking for it fails."""
    try:
        return str(error).strip()[:_LONGEST_TEXT]
    except BaseException:  # its own `__str__` failed
        return ""


def first_line_of(error: BaseException) -> str:
    """Return the first line of an exception's text, or its type's name if it has none."""
    lines = text_of(error).splitlines() or [type(error).__name__]
    return lines[0][:_LONGEST_LINE]
