"""The lines of the program that read values from the card, which computes none."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from collections.abc import Callable

from .findings import ReadLine
from .journal import EmulatedDriver, ReadBackListener
from .notes import Notes
from .source_lines import Place, innermost, line_of, places_of


class ReadBacks:
    """The copies from the card to the host, counted by line from `listen` on.

    Args:
        notes: for errors of the listening itself.
        heard: called after each copy.
    """

    def __init__(self, notes: Notes, heard: Callable[[], None]) -> None:
        self._copies: Counter[Place | None] = Counter()
        self._notes, self._heard = notes, heard
        self._listener = ReadBackListener(self._read)

    def listen(self, driver: EmulatedDriver) -> None:
        """Start counting the copies that a driver makes."""
        driver.on_read_back(self._listener)

    def lines(self) -> tuple[ReadLine, ...]:
        """Return the lines, the most frequent first."""
        return tuple(ReadLine(line_of(place), copies) for place, copies in self._copies.most_common())

    def _read(self, _level: int) -> int:
        # A signal handler may run in here, and its exception could not pass through the C code that called this.
        try:
            with self._notes.record_errors("finding the line that reads a value"):
                self._copies[innermost(places_of(sys._getframe().f_back))[0]] += 1
                self._heard()
        except KeyboardInterrupt:
            return signal.SIGINT
        except BaseException:
            return signal.SIGTERM
        return 0
