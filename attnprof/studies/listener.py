"""The listener that a study reports to while it runs."""

from __future__ import annotations

from collections.abc import Mapping

from attnprof.cases.axis import Threshold
from attnprof.cases.case import Case
from attnprof.cases.record import Record


class Listener:
    """A listener that shows nothing. Override what you want to show.

    Several threads call it when several cards are emulated.
    """

    def tell(self, text: str) -> None:
        """Show a line of text: what is about to take a while."""

    def planned(self, done: int, estimates: Mapping[Case, float], card: str | None) -> None:
        """Learn the work of a device that is open now.

        Args:
            done: the number of its cases that are in the file already.
            estimates: the seconds that each other case will take, roughly.
            card: the emulated card; None for a device of this machine.
        """

    def started(self, case: Case, card: str | None) -> None:
        """Learn that a case of the plan is about to run."""

    def entered(self, phase: str) -> None:
        """Learn that a pass of the running case begins."""

    def ended(self, record: Record) -> None:
        """Learn that a case has its record, and that the record is on disk."""

    def probing(self, case: Case, card: str | None) -> None:
        """Learn that a case of a search is about to run."""

    def found(self, threshold: Threshold) -> None:
        """Learn that a search is over."""
