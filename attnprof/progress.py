"""A sweep's progress on stderr: live on a terminal, a line a case elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column

from attnprof.plan import Case, Plan
from attnprof.record import Record
from attnprof.units import format_duration


@contextmanager
def progress_on_stderr() -> Iterator[SweepProgress]:
    """A listener for `pipeline.run_plan`; what it shows live is gone when it ends."""
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
        yield SweepProgress(console, bar)


class SweepProgress:
    """The bar moves by each case's estimated seconds, so that the time left is not misled by small cases."""

    def __init__(self, console: Console, bar: Progress) -> None:
        self._console, self._bar = console, bar
        self._task = bar.add_task("starting torch", total=None, count="")
        self._estimates: dict[Case, float] = {}
        self._total = self._done = 0
        self._case: Case | None = None

    def planned(self, plan: Plan, done: int, estimates: dict[Case, float]) -> None:
        self._total, self._done, self._estimates = len(plan.cases), done, estimates
        kept = f", {done} of them measured before" if done else ""
        seconds = sum(estimates.values())
        self._console.print(f"{self._total} cases{kept}; about {format_duration(seconds)}", style="dim")
        self._bar.update(self._task, total=max(seconds, 1e-9), count=self._count())

    def started(self, case: Case) -> None:
        self._case = case
        self._bar.update(self._task, description=str(case))

    def entered(self, phase: str) -> None:
        self._bar.update(self._task, description=f"{self._case}: {phase}")

    def ended(self, record: Record) -> None:
        self._done += 1
        self._bar.update(self._task, advance=self._estimates.get(record.case, 0.0), count=self._count())
        if not self._console.is_terminal:
            reason = f" ({record.reason})" if record.reason else ""
            line = f"[{self._count()}] {record.case}: {record.outcome.value.replace('_', ' ')}{reason}"
            self._console.print(line, soft_wrap=True, markup=False)

    def _count(self) -> str:
        return f"{self._done}/{self._total}"
