"""The hint that errors about unknown names end with. Imports no torch."""

from __future__ import annotations

import difflib
from collections.abc import Collection

_LONGEST_NAME = 60


def quoted(name: object) -> str:
    """Return a name as an error shows it: quoted, in one line, with an ellipsis if it is long."""
    text = repr(name)
    return text if len(text) <= _LONGEST_NAME else f"{text[:30]}...{text[-27:]}"


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Return the one or two known names that are most like a name, as a question; all known names if none is."""
    # Nothing is like a very long name, and the search would take long.
    near = difflib.get_close_matches(name[:_LONGEST_NAME].lower(), known, n=2, cutoff=0.4)
    return f"did you mean {' or '.join(map(repr, near))}?" if near else f"known: {', '.join(known)}"
