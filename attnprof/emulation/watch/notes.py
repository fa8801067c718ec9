"""Notes on what could not be followed: errors of the watcher itself, which must not reach the program."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_MOST = 20


class Notes:
    """A list of lines: each only once, and no more than fit on a screen."""

    def __init__(self) -> None:
        self._lines: dict[str, None] = {}

    def add(self, line: str) -> None:
        """Add a line, unless it is there already or there are too many."""
        if len(self._lines) < _MOST:
            self._lines[line] = None

    def lines(self) -> tuple[str, ...]:
        """Return the lines, the oldest first."""
        return tuple(self._lines)

    @contextmanager
    def record_errors(self, task: str) -> Iterator[None]:
        """Turn any error within into a note; not what ends the program, such as Ctrl-C.

        Args:
            task: what is being done, for the note.
        """
        try:
            yield
        except Exception as error:
            self.add(f"{task}: {type(error).__name__}: {error}")
