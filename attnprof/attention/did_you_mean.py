"""The hint that errors about unknown names end with. Imports no torch."""

from __future__ import annotations

import difflib
from collections.abc import Collection


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Return the one or two known names that are most like a name, as a question; all known names if none is."""
    near = difflib.get_close_matches(name.lower(), known, n=2, cutoff=0.4)
    return f"did you mean {' or '.join(map(repr, near))}?" if near else f"known: {', '.join(known)}"
