"""What could not be followed: an error of the watching's own, which must not reach the program."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_MOST = 20


class Notes:
    """Lines, each once, and no more than a screen of them."""

    def __init__(self) -> None:
        self._lines: dict[str, None] = {}

    def add(self, line: str) -> None:
        if len(self._lines) < _MOST:
            self._lines[line] = None

    def lines(self) -> tuple[str, ...]:
        return tuple(self._lines)

    @contextmanager
    def instead(self, task: str) -> Iterator[None]:
        """A note in the place of any error within; not of what ends the program, such as Ctrl-C."""
        try:
            yield
        except Exception as error:
            self.add(f"{task}: {type(error).__name__}: {error}")
