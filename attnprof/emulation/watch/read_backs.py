"""The lines of the program that read values from the card, and what came of values that were made up."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from types import FrameType

from .findings import BRANCH, UNKNOWN, Line, ReadCounts, ReadLine
from .journal import EmulatedDriver, ReadBackListener
from .notes import Notes
from .source_lines import Place, innermost, line_of, places_of, torch_place
from .source_trees import Call
from .value_uses import use_of

_MOST_FRAMES = 64  # of a stack that are looked at
_MOST_READERS = 5_000
_PATIENCE = 2_000  # made-up reads without an optimizer step, after which a loop is named


@dataclass
class _Reader:
    """A stack that reads, the innermost frame first, and its copies by level."""

    stack: list[Call]
    place: Place | None
    package_place: Place | None
    levels: list[int]
    since_step: int = 0
    repeated: bool = False
    use: str = ""
    decides: Place | None = None


class ReadBacks:
    """The copies from the card to the host, counted by stack from `listen` on.

    Args:
        notes: for errors of the listening itself.
        heard: called after each copy.
    """

    def __init__(self, notes: Notes, heard: Callable[[], None]) -> None:
        self._readers: dict[tuple[int, ...], _Reader] = {}
        self._notes, self._heard = notes, heard
        self._listener = ReadBackListener(self._read)

    def listen(self, driver: EmulatedDriver) -> None:
        """Start counting the copies that a driver makes."""
        driver.on_read_back(self._listener)

    def stepped(self) -> None:
        """Count anew towards a loop that does not end, since an optimizer has made a step."""
        for reader in self._readers.values():
            reader.since_step = 0

    def lines(self) -> tuple[ReadLine, ...]:
        """Return the lines; those with the most made-up values come first, then the most frequent."""
        found: dict[tuple[object, ...], ReadLine] = {}
        for reader in list(self._readers.values()):
            use = self._use(reader)
            key = (reader.place, reader.package_place, use, reader.decides)
            one = found.get(key) or ReadLine(
                line_of(reader.place), line_of(reader.package_place), ReadCounts(), use, line_of(reader.decides)
            )
            reads = one.reads + ReadCounts(*reader.levels)
            found[key] = replace(one, reads=reads, repeated=one.repeated or reader.repeated)
        return tuple(sorted(found.values(), key=lambda one: (-one.reads.made_up, -one.reads.total)))

    def _read(self, level: int) -> int:
        # A signal handler may run in here, and its exception could not pass through the C code that called this.
        try:
            with self._notes.record_errors("finding the line that reads a value"):
                self._count(sys._getframe().f_back, level)
                self._heard()
        except KeyboardInterrupt:
            return signal.SIGINT
        except BaseException:
            return signal.SIGTERM
        return 0

    def _count(self, frame: FrameType | None, level: int) -> None:
        stack = list(islice(_calls(frame), _MOST_FRAMES))
        if len(self._readers) >= _MOST_READERS:
            del stack[1:]
        # The codes are kept with the stack, so that their ids stay theirs.
        key = tuple(number for code, instruction in stack for number in (id(code), instruction))
        reader = self._readers.get(key)
        if reader is None:
            places = list(places_of(frame))
            place, package = innermost(places)
            reader = self._readers[key] = _Reader(stack, place, package or torch_place(places), [0, 0, 0])
        reader.levels[level] += 1
        if level == 2:
            reader.since_step += 1
            if reader.since_step == _PATIENCE and not reader.repeated and self._use(reader) in (BRANCH, UNKNOWN):
                reader.repeated = True
                _warn(line_of(reader.place), reader.use)

    def _use(self, reader: _Reader) -> str:
        """Return the use of a reader's made-up values; "" if it has read none."""
        if reader.levels[2] and not reader.use:
            reader.use = UNKNOWN
            with self._notes.record_errors("finding the use of a value"):
                reader.use, reader.decides = use_of(reader.stack)
        return reader.use


def _calls(frame: FrameType | None) -> Iterable[Call]:
    while frame is not None:
        yield frame.f_code, frame.f_lasti
        frame = frame.f_back


def _warn(line: Line | None, use: str) -> None:
    """Name a loop on the program's standard error, since it may never end."""
    where = f"{line.file}:{line.line}  {line.source}" if line else "backward"
    came = "and branches on it" if use == BRANCH else "and what comes of it is unknown"
    text = (
        f"attnprof: {where}: has read a made-up value {_PATIENCE} times without an optimizer step, {came}; a loop that "
        f"waits for this value does not end, so limit its iterations\n"
    )
    with suppress(OSError):
        os.write(2, text.encode(errors="replace"))
