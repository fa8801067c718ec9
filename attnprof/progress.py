"""Progress on stderr: live on a terminal, a line a case or a search elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column

from attnprof.cases.axis import Threshold
from attnprof.cases.case import AS_IS, Case
from attnprof.cases.measurement import Outcome
from attnprof.cases.plan import Plan
from attnprof.cases.record import Record
from attnprof.units import format_duration


@contextmanager
def progress_on_stderr(plan: Plan, devices: int) -> Iterator[SweepProgress]:
    """A listener for `pipeline.run_plan`; what it shows live is gone when it ends."""
    with _bar() as (console, bar):
        yield SweepProgress(console, bar, len(plan.cases) * devices)


@contextmanager
def search_progress_on_stderr(searches: int) -> Iterator[SearchProgress]:
    """A listener for `limits.run_limits`."""
    with _bar() as (console, bar):
        yield SearchProgress(console, bar, searches)


@contextmanager
def recommend_progress_on_stderr(plan: Plan) -> Iterator[RecommendProgress]:
    """A listener for `recommend.from_runs`."""
    with _bar() as (console, bar):
        yield RecommendProgress(console, bar, len(plan.cases))


@contextmanager
def model_progress_on_stderr(plan: Plan, devices: int) -> Iterator[ModelProgress]:
    """A listener for `model.profile`."""
    with _bar() as (console, bar):
        yield ModelProgress(console, bar, len(plan.cases) * devices)


@contextmanager
def _bar() -> Iterator[tuple[Console, Progress]]:
    console = Console(stderr=True, highlight=False)
    bar = Progress(
        SpinnerColumn("line"),
        TextColumn("{task.description}", table_column=Column(no_wrap=True, ratio=1), markup=False),
        BarColumn(bar_width=12),
        TextColumn("{task.fields[count]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        expand=True,
        disable=not console.is_terminal,
    )
    with bar:
        yield console, bar


def _say(console: Console, text: str) -> None:
    console.print(text, style="dim", markup=False, soft_wrap=True)


class SearchProgress:
    """A count of the searches that are over, and the probe that runs."""

    def __init__(self, console: Console, bar: Progress, searches: int) -> None:
        self._console, self._bar, self._searches = console, bar, searches
        self._task = bar.add_task("starting torch", total=searches, count=f"0/{searches}")
        self._lock = Lock()
        self._done = 0

    def tell(self, text: str) -> None:
        """Say what takes a while."""
        _say(self._console, text)

    def probing(self, case: Case, card: str | None) -> None:
        self._bar.update(self._task, description=f"{card}: {case}" if card else str(case))

    def found(self, threshold: Threshold) -> None:
        with self._lock:
            self._done += 1
            count = f"{self._done}/{self._searches}"
            self._bar.update(self._task, advance=1, count=count)
            if not self._console.is_terminal:
                record, axis = threshold.record, threshold.axis
                where = f"{record.card}: " if record and record.card else ""
                largest = axis.text(threshold.largest_ok) if threshold.largest_ok else "none"
                line = f"[{count}] {where}{threshold.strategy} {axis.base.mode}: {largest} in {threshold.probes} probes"
                self._console.print(line, soft_wrap=True, markup=False)


class SweepProgress:
    """The bar moves by each case's estimated seconds, so that the time left is not misled by small cases."""

    def __init__(self, console: Console, bar: Progress, cases: int) -> None:
        self._console, self._bar = console, bar
        self._task = bar.add_task("starting torch", total=None, count="")
        self._lock = Lock()
        self._estimates: dict[Case, float] = {}
        self._seconds, self._cases, self._done = 0.0, cases, 0
        self._running = ""

    def tell(self, text: str) -> None:
        """Say what takes a while."""
        _say(self._console, text)

    def planned(self, done: int, estimates: Mapping[Case, float], card: str | None) -> None:
        with self._lock:
            self._done += done
            self._estimates.update(estimates)
            self._seconds += sum(estimates.values())
            kept = f", {done} of them known before" if done else ""
            where = f"{card}: " if card else ""
            duration = format_duration(sum(estimates.values()))
            self.tell(f"{where}{len(estimates) + done} cases{kept}; about {duration}")
            self._bar.update(self._task, total=max(self._seconds, 1e-9), count=self._count())

    def started(self, case: Case, card: str | None) -> None:
        self._running = f"{card}: {case}" if card else str(case)
        self._bar.update(self._task, description=self._running)

    def entered(self, phase: str) -> None:
        self._bar.update(self._task, description=f"{self._running}: {phase}")

    def ended(self, record: Record) -> None:
        with self._lock:
            self._done += 1
            self._bar.update(self._task, advance=self._estimates.get(record.case, 0.0), count=self._count())
            if not self._console.is_terminal:
                reason = f" ({record.reason})" if record.reason else ""
                where = f"{record.card}: " if record.card else ""
                outcome = record.outcome.value.replace("_", " ")
                line = f"[{self._count()}] {where}{record.case}: {outcome}{reason}"
                self._console.print(line, soft_wrap=True, markup=False)

    def _count(self) -> str:
        return f"{self._done}/{self._cases}"


class RecommendProgress(SweepProgress):
    """The candidates, and then the probes of a search whose number is not known before."""

    def probing(self, case: Case, card: str | None) -> None:
        where = f"{card}: " if card else ""
        self._bar.update(self._task, description=f"{where}what else fits: {case}", total=None, count="")

    def found(self, threshold: Threshold) -> None:
        if not self._console.is_terminal:
            largest = threshold.axis.text(threshold.largest_ok) if threshold.largest_ok else "none"
            line = f"{threshold.strategy}, largest {threshold.axis.vary}: {largest} in {threshold.probes} probes"
            self._console.print(line, soft_wrap=True, markup=False)


class ModelProgress(RecommendProgress):
    """The same for a model, whose own error is told once, by the command."""

    def ended(self, record: Record) -> None:
        if record.case.strategy != AS_IS or record.outcome not in (Outcome.UNSUPPORTED, Outcome.CRASHED):
            super().ended(record)
