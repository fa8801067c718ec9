"""Progress of a study on stderr: a live bar on a terminal, and elsewhere a line for each case or search."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from attnprof.cases.axis import Threshold
from attnprof.cases.case import AS_IS, Case
from attnprof.cases.measurement import Outcome
from attnprof.cases.record import Record
from attnprof.studies.listener import Listener
from attnprof.text import harmless
from attnprof.units import format_duration

_WIDE = 64  # columns of a terminal; a narrower one has no room for the bar and the time that has passed


class StudyProgress(Listener):
    """A bar with a count, and the case that runs now.

    Args:
        console: of stderr.
        bar: in which the study has one line.
        total_count: the number of cases or searches.
    """

    def __init__(self, console: Console, bar: Progress, total_count: int) -> None:
        self._console, self._bar, self._total_count = console, bar, total_count
        self._task = bar.add_task("starting torch", total=None, count="")
        self._lock = Lock()  # several threads report when several cards are emulated
        self._done_count = 0

    def tell(self, text: str) -> None:
        """Print a line above the bar."""
        self._console.print(harmless(text), style="dim", markup=False, soft_wrap=True)

    def _count(self) -> str:
        return f"{self._done_count}/{self._total_count}"

    def _show_running(self, text: str, card: str | None) -> None:
        self._bar.update(self._task, description=harmless(_on(card, text)))

    def _print_line(self, text: str) -> None:
        """Print a line if there is no live bar."""
        if self._bar.disable:
            self._console.print(harmless(text), soft_wrap=True, markup=False)


P = TypeVar("P", bound=StudyProgress)


@contextmanager
def progress_on_stderr(progress: Callable[[Console, Progress, int], P], total_count: int) -> Iterator[P]:
    """Show the progress of a study while the block runs; a live bar is gone when it ends.

    Args:
        progress: a subclass of `StudyProgress`.
        total_count: the number of cases or searches.

    Yields:
        The listener of the study.
    """
    console = Console(stderr=True, highlight=False, emoji=False)
    wide: list[ProgressColumn] = [BarColumn(bar_width=12)] if console.width >= _WIDE else []
    elapsed: list[ProgressColumn] = [TimeElapsedColumn()] if console.width >= _WIDE else []
    bar = Progress(
        SpinnerColumn("line"),
        TextColumn("{task.description}", table_column=Column(no_wrap=True, ratio=1), markup=False),
        *wide,
        TextColumn("{task.fields[count]}"),
        *elapsed,
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        expand=True,
        # FORCE_COLOR makes rich take a file for a terminal; a dumb terminal cannot redraw a line.
        disable=console.is_dumb_terminal or not (console.is_terminal and console.file.isatty()),
    )
    with bar:
        yield progress(console, bar, total_count)


class SearchProgress(StudyProgress):
    """The searches that are over, and the probe that runs."""

    def __init__(self, console: Console, bar: Progress, total_count: int) -> None:
        super().__init__(console, bar, total_count)
        bar.update(self._task, total=total_count, count=self._count())

    def probing(self, case: Case, card: str | None) -> None:
        """Show the probe."""
        self._show_running(str(case), card)

    def found(self, threshold: Threshold) -> None:
        """Count the search."""
        with self._lock:
            self._done_count += 1
            self._bar.update(self._task, advance=1, count=self._count())
            card = threshold.record.card if threshold.record else None
            found = f"{threshold.strategy} {threshold.axis.base.mode}: {_largest(threshold)}"
            self._print_line(f"[{self._count()}] {_on(card, found)}")


class CaseProgress(StudyProgress):
    """The cases that have ended. The bar moves by estimated seconds, so that many small cases do not mislead it."""

    def __init__(self, console: Console, bar: Progress, total_count: int) -> None:
        super().__init__(console, bar, total_count)
        self._estimates: dict[Case, float] = {}
        self._total_seconds = 0.0
        self._running: tuple[Case, str | None] | None = None

    def planned(self, done: int, estimates: Mapping[Case, float], card: str | None) -> None:
        """Print the size of the work, and lengthen the bar by it."""
        with self._lock:
            self._done_count += done
            self._estimates.update(estimates)
            seconds = sum(estimates.values())
            self._total_seconds += seconds
            kept = f", {done} of them known before" if done else ""
            count = len(estimates) + done
            cases = "1 case" if count == 1 else f"{count} cases"
            self.tell(_on(card, f"{cases}{kept}; about {format_duration(seconds)}"))
            self._bar.update(self._task, total=max(self._total_seconds, 1e-9), count=self._count())

    def started(self, case: Case, card: str | None) -> None:
        """Show the case."""
        self._running = case, card
        self._show_running(str(case), card)

    def entered(self, phase: str) -> None:
        """Show the pass of the running case."""
        if self._running is not None:
            case, card = self._running
            self._show_running(f"{case}: {phase}", card)

    def ended(self, record: Record) -> None:
        """Count the case."""
        with self._lock:
            self._done_count += 1
            self._bar.update(self._task, advance=self._estimates.get(record.case, 0.0), count=self._count())
            reason = f" ({record.reason})" if record.reason else ""
            ended = f"{record.case}: {record.outcome.words}{reason}"
            self._print_line(f"[{self._count()}] {_on(record.card, ended)}")


class CandidateProgress(CaseProgress):
    """The candidates of a recommendation, then the probes of searches whose number is not known in advance."""

    def probing(self, case: Case, card: str | None) -> None:
        """Show the probe."""
        self._bar.update(self._task, total=None, count="")
        self._show_running(f"what else fits: {case}", card)

    def found(self, threshold: Threshold) -> None:
        """Print what was found."""
        self._print_line(f"{threshold.strategy}, largest {threshold.axis.vary}: {_largest(threshold)}")


class ModelProgress(CandidateProgress):
    """The cases of a model. The command prints the model's own error, so that it is not printed here as well."""

    def ended(self, record: Record) -> None:
        """Count the case, unless the model itself failed."""
        if record.case.strategy != AS_IS or record.outcome not in (Outcome.UNSUPPORTED, Outcome.CRASHED):
            super().ended(record)


def _on(card: str | None, text: str) -> str:
    return f"{card}: {text}" if card else text


def _largest(threshold: Threshold) -> str:
    largest = threshold.axis.text(threshold.largest_ok) if threshold.largest_ok else "none"
    return f"{largest} in {threshold.probes} probes"
