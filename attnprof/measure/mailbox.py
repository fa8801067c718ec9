"""Memory that the command and the measuring process share, for what the process has to report. Needs no torch.

The code under test runs in the measuring process. It can print, write to every descriptor, close them all, or fork.
None of that changes this memory, so an answer that is found here is the worker's own.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
from contextlib import suppress

from attnprof.measure.nameless import nameless_file

_LENGTH = struct.Struct("<Q")
_ANSWER_BYTES = 32 * 2**20  # pages that nobody writes to take no memory
_TEXT_BYTES = 4096
_SHRINK, _GROW, _FUTURE_WRITE = 0x2, 0x4, 0x10  # F_SEAL_..., linux/fcntl.h


class Slot:
    """A part of shared memory that holds one message.

    Args:
        memory: the shared memory.
        start: where the slot begins.
        capacity: bytes that the slot takes.
    """

    def __init__(self, memory: mmap.mmap, start: int, capacity: int) -> None:
        self._memory, self._start = memory, start
        self._capacity = capacity - _LENGTH.size

    @property
    def capacity(self) -> int:
        """The bytes of the longest message."""
        return self._capacity

    def put(self, content: bytes) -> None:
        """Replace the message.

        Raises:
            ValueError: it is longer than the slot.
        """
        if len(content) > self._capacity:
            raise ValueError(f"a message of {len(content)} bytes is too long: the limit is {self._capacity}")
        begin = self._start + _LENGTH.size
        self.clear()
        self._memory[begin : begin + len(content)] = content
        _LENGTH.pack_into(self._memory, self._start, len(content))

    def get(self) -> bytes:
        """Return the message; nothing if there is none."""
        [length] = _LENGTH.unpack_from(self._memory, self._start)
        begin = self._start + _LENGTH.size
        return self._memory[begin : begin + length] if length <= self._capacity else b""

    def clear(self) -> None:
        """Remove the message."""
        _LENGTH.pack_into(self._memory, self._start, 0)


class Mailbox:
    """The slots that the command and the measuring process share.

    Args:
        descriptor: a file of the right size, from `mailbox_file`.

    Attributes:
        phase: the pass that runs.
        answer: the answer to the request.
        place: the line of the user's code that is about to end the process; "" if none is.
    """

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, _ANSWER_BYTES + 2 * _TEXT_BYTES)
        self.phase = Slot(self._memory, 0, _TEXT_BYTES)
        self.place = Slot(self._memory, _TEXT_BYTES, _TEXT_BYTES)
        self.answer = Slot(self._memory, 2 * _TEXT_BYTES, _ANSWER_BYTES)

    def close(self) -> None:
        """Let go of the memory."""
        self._memory.close()


def mailbox_file() -> int:
    """Return the descriptor of a new file for a mailbox. It has no name, and cannot be cut short.

    Raises:
        OSError: the system refuses it.
    """
    descriptor = nameless_file()
    try:
        os.ftruncate(descriptor, _ANSWER_BYTES + 2 * _TEXT_BYTES)
    except OSError:
        os.close(descriptor)
        raise
    _seal(descriptor, _SHRINK | _GROW)
    return descriptor


def close_to_writes(descriptor: int) -> None:
    """Refuse every later write and mapping, where Linux can; both sides have mapped the file by then."""
    _seal(descriptor, _FUTURE_WRITE)


def draft() -> Slot:
    """Return a slot that this process shares with the children that it will fork, and with nobody else."""
    return Slot(mmap.mmap(-1, _ANSWER_BYTES), 0, _ANSWER_BYTES)


def _seal(descriptor: int, seals: int) -> None:
    if sys.platform != "linux":
        return
    import fcntl

    with suppress(OSError):  # not a memory file, or a kernel that does not know the seal
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
