"""The worker's end of the connection to the command."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator, Mapping
from contextlib import suppress

from attnprof.measure.mailbox import Mailbox, Slot, close_to_writes
from attnprof.measure.messages import Message, PhasesMessage, Request, request_from_line, to_line
from attnprof.measure.worker import owner


class Connection:
    """The pipe of requests, the mailbox for answers, and the pipe that announces them.

    Args:
        descriptors: the numbers of `requests`, `bell` and `mailbox`.
    """

    def __init__(self, descriptors: Mapping[str, int]) -> None:
        self._requests, self._bell = descriptors["requests"], descriptors["bell"]
        for descriptor in (self._requests, self._bell):
            os.set_inheritable(descriptor, False)
        self._files = [os.fstat(self._requests), os.fstat(self._bell)]
        self._mailbox = Mailbox(descriptors["mailbox"])
        close_to_writes(descriptors["mailbox"])
        os.close(descriptors["mailbox"])

    @property
    def place(self) -> Slot:
        """The slot for the line of the user's code that is about to end the process."""
        return self._mailbox.place

    def requests(self) -> Iterator[Request]:
        """Yield the command's requests until it closes its end."""
        with os.fdopen(self._requests, "rb", closefd=False) as lines:
            for line in lines:
                yield request_from_line(line)

    def show(self, phases: PhasesMessage) -> None:
        """Tell the command which passes have begun."""
        self._put(self._mailbox.phase, to_line(phases))

    def send(self, answer: Message) -> None:
        """Send an answer."""
        self._put(self._mailbox.answer, to_line(answer))

    def close_requests(self) -> None:
        """Keep the requests from a child of this process."""
        os.close(self._requests)

    def command_has_gone(self) -> bool:
        """Return whether the command has closed its end, or has been killed."""
        poll = select.poll()
        poll.register(self._requests, 0)  # the end of a pipe is always reported
        return bool(poll.poll(0))

    def is_intact(self) -> bool:
        """Return whether both pipes are as they were: code under test can close them or put others in their place."""
        try:
            now = [os.fstat(self._requests), os.fstat(self._bell)]
        except OSError:
            return False
        return all(map(os.path.samestat, self._files, now))

    def _put(self, slot: Slot, content: bytes) -> None:
        owner.leave_if_copy()
        slot.put(content)
        with suppress(OSError):  # closed by the code under test; the command looks into the mailbox without it too
            os.write(self._bell, b".")
