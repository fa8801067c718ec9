"""The text on a measuring process that ended before it answered. Needs no torch."""

from __future__ import annotations

import signal

from attnprof.measure.places import fault_lines, users_line, without_fault
from attnprof.text import signal_name

_KILLED = (
    "the measuring process was killed, probably because this machine ran out of memory: end other programs, or ask for "
    "less with --budget or a smaller batch"
)


class DiedError(Exception):
    """The measuring process ended before it answered.

    Args:
        broken: what it did instead of ending, as one line.
        exit_code: its exit code, negative for a signal.
        place: the line of the user's code that ended it; "" if that is not known.
        output: the end of what it wrote.
        began: whether it had begun with a case.
    """

    def __init__(
        self, broken: str = "", *, exit_code: int = 0, place: str = "", output: str = "", began: bool = True
    ) -> None:
        super().__init__(broken)
        self._broken, self._exit_code, self._place, self._output = broken, exit_code, place, output
        self.began = began

    @property
    def killed(self) -> bool:
        """Whether a signal ended it."""
        return self._exit_code < 0

    @property
    def start_reason(self) -> str:
        """One line on a process that had no case."""
        return self._broken or self._with_last_words(self._how)

    def reason(self, target: str = "") -> str:
        """Return one line on a process that had a case.

        Args:
            target: the model that the case runs; "" for a block.
        """
        if self._broken:
            return self._broken
        place = self._place or (str(users_line(fault_lines(self._output), target) or "") if target else "")
        who = target or "the measuring process"
        if place:
            return f"{place}: {who} ended the measuring process ({self._how})"
        if self._exit_code == -signal.SIGKILL:
            return _KILLED
        how = f"{who} ended the measuring process" if target else f"{who} ended"
        return self._with_last_words(f"{how} ({self._how})")

    @property
    def _how(self) -> str:
        code = self._exit_code
        return f"exit code {code}" if code >= 0 else f"signal {signal_name(-code)}"

    def _with_last_words(self, text: str) -> str:
        lines = without_fault(self._output).strip().splitlines()
        # The profiler's tracing marks explain nothing.
        lines = [line for line in lines if not line.startswith("USDT:")]
        return f"{text}: {lines[-1].strip()}" if lines else text
