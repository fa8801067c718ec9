"""Who is told what happens during a study, to show it. Several threads call when several cards are emulated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from attnprof.cases.axis import Threshold
from attnprof.cases.case import Case
from attnprof.cases.record import Record


class CaseListener(Protocol):
    """A listener to the cases of a plan."""

    def planned(self, done: int, estimates: Mapping[Case, float], card: str | None) -> None:
        """Learn that a device is open, that `done` of its cases are in the file, and the seconds of each other case."""

    def started(self, case: Case, card: str | None) -> None:
        """Learn that a case is about to run, on an emulated card if one is named."""

    def entered(self, phase: str) -> None:
        """Learn that a pass of the running case begins."""

    def ended(self, record: Record) -> None:
        """Learn that a case has its record, and that the record is on disk."""


class SearchListener(Protocol):
    """A listener to the searches for thresholds."""

    def probing(self, case: Case, card: str | None) -> None:
        """Learn that a case is about to run."""

    def found(self, threshold: Threshold) -> None:
        """Learn that a search is over."""


class StudyListener(CaseListener, SearchListener, Protocol):
    """A listener to a study that runs a plan and then searches."""
