"""Which lines of the program read values from the card, which computes none."""

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
    """Counted by line, since `listen`.

    Args:
        heard: called after each.
    """

    def __init__(self, notes: Notes, heard: Callable[[], None]) -> None:
        self._copies: Counter[Place | None] = Counter()
        self._notes, self._heard = notes, heard
        self._listener = ReadBackListener(self._read)

    def listen(self, driver: EmulatedDriver) -> None:
        driver.on_read_back(self._listener)

    def lines(self) -> tuple[ReadLine, ...]:
        """The most frequent first."""
        return tuple(ReadLine(line_of(place), copies) for place, copies in self._copies.most_common())

    def _read(self) -> int:
        # A signal's handler may run in here, and what it raises could not pass through C.
        try:
            with self._notes.instead("finding the line that reads a value"):
                self._copies[innermost(places_of(sys._getframe().f_back))[0]] += 1
                self._heard()
        except KeyboardInterrupt:
            return signal.SIGINT
        except BaseException:
            return signal.SIGTERM
        return 0
